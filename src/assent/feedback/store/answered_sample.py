"""Answered items for figures that need whole answers: all of them, or evenly spread parts of a large project."""

from __future__ import annotations

from collections.abc import Iterator

from assent.feedback.annotation_source import PAGE, all_answered
from assent.feedback.records import AnsweredItem
from assent.feedback.store.store import FeedbackStore

MOST_ANSWERS = 20_000
_PARTS = 20


def answered_sample(store: FeedbackStore, project_id: int, *, answers: int) -> Iterator[AnsweredItem]:
    """Items by id; of a project with more than MOST_ANSWERS `answers` those at evenly spread places, each once."""
    if answers <= MOST_ANSWERS:
        yield from all_answered(store, project_id)
        return
    first = store.answered_items(project_id, limit=1)[0].item.id
    latest = store.events(project_id, limit=200, newest_first=True)
    last = max((event.item_id or first for event in latest), default=first)
    seen = 0
    for start in range(first - 1, last, max(PAGE, (last - first) // _PARTS)):
        for answered in store.answered_items(project_id, after_item=max(start, seen), limit=PAGE):
            seen = answered.item.id
            yield answered
