"""Judgement to test with: items, events, and a keeper in memory that undoes and pages as the store does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assent.errors import StoreError
from assent.feedback.records import (
    AnsweredItem,
    Candidate,
    Event,
    EventKind,
    Item,
    NewItem,
    Project,
    ProjectSettings,
)
from assent.types import Conversation


def new_item(*texts: str, prompt: str | Conversation = "Why is the sky blue?", **more: Any) -> NewItem:
    """An item with completions of models named after their places."""
    conversation = Conversation.of_user(prompt) if isinstance(prompt, str) else prompt
    candidates = tuple(Candidate(text=text, model=f"model-{place}") for place, text in enumerate(texts))
    return NewItem(prompt=conversation, candidates=candidates, **more)


@dataclass
class MemorySource:
    """A store in memory: events in order, undone ones left out of `judged`."""

    settings: ProjectSettings = field(default_factory=ProjectSettings)
    all_items: list[Item] = field(default_factory=list)
    record: list[Event] = field(default_factory=list)

    def add(self, *texts: str, **more: Any) -> int:
        """Add an item and return its id."""
        return self.add_new(new_item(*texts, **more))

    def add_new(self, new: NewItem) -> int:
        number = len(self.all_items) + 1
        self.all_items.append(Item(id=number, project_id=1, new=new, created_at=1000.0))
        return number

    def say(self, item_id: int, person_id: int, kind: str, payload: Mapping[str, Any], **more: Any) -> int:
        """Append an event and return its number."""
        seq = len(self.record) + 1
        count = len(self.all_items[item_id - 1].new.candidates)
        fields: dict[str, Any] = {
            "order": tuple(range(count)), "repeat": False, "time_taken_ms": 10_000, "created_at": 1000.0 + 60 * seq,
        }  # fmt: skip
        self.record.append(
            Event(
                seq=seq, key=f"key-{seq}", kind=EventKind(kind), project_id=1, item_id=item_id, person_id=person_id,
                payload=payload, guideline_version=1, **(fields | more),
            )
        )  # fmt: skip
        return seq

    def undo(self, seq: int) -> int:
        undone = self.record[seq - 1]
        return self.say(undone.item_id or 0, undone.person_id, "undo", {}, undone_seq=seq, time_taken_ms=0)

    def standing(self, item_id: int) -> tuple[Event, ...]:
        undone = {event.undone_seq for event in self.record if event.kind is EventKind.UNDO}
        return tuple(
            event
            for event in self.record
            if event.item_id == item_id and event.kind is not EventKind.UNDO and event.seq not in undone
        )

    def one(self, item_id: int = 1) -> AnsweredItem:
        return AnsweredItem(item=self.all_items[item_id - 1], events=self.standing(item_id))

    def project(self, project_id: int) -> Project:
        if project_id != 1:
            raise StoreError("there is no such project")
        return Project(id=1, name="helpful", settings=self.settings, guideline_version=1, created_at=1000.0)

    def answered_items(self, project_id: int, *, after_item: int = 0, limit: int = 1000) -> list[AnsweredItem]:
        found = [self.one(item.id) for item in self.all_items if item.id > after_item]
        return [answered for answered in found if answered.events][:limit]

    def events(
        self, project_id: int | None = None, *, after: int = 0, limit: int = 1000, person_id: int | None = None
    ) -> list[Event]:
        return [event for event in self.record[after:] if person_id in (None, event.person_id)][:limit]

    def items(self, project_id: int, *, after: int = 0, limit: int = 1000) -> list[Item]:
        return self.all_items[after : after + limit]


def answered_by(texts: Sequence[str], *answers: tuple[int, str, Mapping[str, Any]], **more: Any) -> AnsweredItem:
    """One item with answers of (person, kind, payload)."""
    kept = MemorySource()
    item = kept.add(*texts, **more)
    for person, kind, payload in answers:
        kept.say(item, person, kind, payload)
    return kept.one(item)
