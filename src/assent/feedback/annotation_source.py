"""What exchange and statistics read: any store of annotations that gives its pages in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from assent.feedback.records import AnsweredItem, Event, Item, Project

PAGE = 500  # items or events asked for at once: few enough to stay small in memory, enough to make the asking cheap


class AnnotationSource(Protocol):
    """The reading part of a store."""

    def project(self, project_id: int) -> Project:
        """The project; StoreError if unknown."""

    def answered_items(self, project_id: int, *, after_item: int = 0, limit: int = 1000) -> list[AnsweredItem]:
        """Items with at least one standing answer, by item id."""

    def events(
        self, project_id: int | None = None, *, after: int = 0, limit: int = 1000, person_id: int | None = None
    ) -> list[Event]:
        """Events by their number."""

    def items(self, project_id: int, *, after: int = 0, limit: int = 1000) -> list[Item]:
        """Items by id."""


def all_answered(source: AnnotationSource, project_id: int) -> Iterator[AnsweredItem]:
    """Every answered item of a project, page by page."""
    after = 0
    while page := source.answered_items(project_id, after_item=after, limit=PAGE):
        yield from page
        after = page[-1].item.id


def all_events(source: AnnotationSource, project_id: int | None = None, *, after: int = 0) -> Iterator[Event]:
    """Every event after `after`, page by page."""
    while page := source.events(project_id, after=after, limit=PAGE):
        yield from page
        after = page[-1].seq


def all_items(source: AnnotationSource, project_id: int, *, after: int = 0) -> Iterator[Item]:
    """Every item after `after`, page by page."""
    while page := source.items(project_id, after=after, limit=PAGE):
        yield from page
        after = page[-1].id
