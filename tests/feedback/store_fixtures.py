"""Stores for tests: `store` is an empty one on either database, `sqlite_store` on SQLite only. Import what is used.

from feedback.store_fixtures import Clock, clock, postgres_server, store, store_url
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from feedback.postgres import Server, postgres_server

from assent.feedback.records import Answer, Candidate, EventKind, NewItem, PersonRole, Presentation, ProjectSettings
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

__all__ = [
    "Clock",
    "annotators",
    "answer",
    "clock",
    "items",
    "postgres_server",
    "ranking_project",
    "sqlite_store",
    "store",
    "store_url",
]  # fmt: skip

_numbers = itertools.count(1)


class Clock:
    """A clock that stands still until it is moved, to either side."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the `store` fixtures."""
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'feedback.db'}"
    server: Server = request.getfixturevalue("postgres_server")
    return server.fresh_schema(f"test_{next(_numbers)}")


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[FeedbackStore]:
    """An empty store on either database."""
    with FeedbackStore.open(store_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path, clock: Clock) -> Iterator[FeedbackStore]:
    """An empty store in a file."""
    with FeedbackStore.open(str(tmp_path / "feedback.db"), clock=clock) as opened:
        yield opened


def items(count: int, *, completions: int = 3, prefix: str = "item", **fields: object) -> list[NewItem]:
    """`count` items with keys."""
    return [
        NewItem(
            prompt=Conversation.of_user(f"question {number}"),
            candidates=tuple(Candidate(text=f"answer {number}.{place}", model="m") for place in range(completions)),
            key=f"{prefix}-{number}",
            **fields,  # type: ignore[arg-type]
        )
        for number in range(count)
    ]


def ranking_project(store: FeedbackStore, *, count: int = 0, name: str = "answers", **settings: object) -> int:
    """The id of a new ranking project with `count` items."""
    project = store.create_project(name, ProjectSettings(**settings))  # type: ignore[arg-type]
    if count:
        store.add_items(project.id, items(count))
    return project.id


def annotators(store: FeedbackStore, project_id: int, count: int) -> list[int]:
    """The ids of new members of a project, without passwords."""
    ids = [store.create_person(f"annotator {n}", PersonRole.ANNOTATOR, None).id for n in range(count)]
    store.set_members(project_id, ids)
    return ids


def answer(shown: Presentation, *, key: str | None = None, time_taken_ms: int = 1000) -> Answer:
    """A ranking of what was shown, first slot best; the key is new by default."""
    return Answer(
        key=f"key-{next(_numbers)}" if key is None else key,
        presentation_id=shown.id,
        kind=EventKind.RANKING,
        payload={"ranks": list(range(1, len(shown.order) + 1))},
        time_taken_ms=time_taken_ms,
    )
