"""A SQLite store with a million events in a minute: a small store is answered in earnest and then copied row by row.

Copies get their own numbers and keys; the hash chain is computed anew, so that the store passes `verify_chain`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from assent.feedback.records import (
    Answer,
    Candidate,
    EventKind,
    NewItem,
    PersonRole,
    Presentation,
    ProjectSettings,
    TaskMode,
)
from assent.feedback.store.chain import digest
from assent.feedback.store.rows import event_of
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

_SEED_ITEMS, _OVERLAP, _PEOPLE = 5_000, 2, 20
_MULTIPLIED = ("items", "asked", "wanted", "given", "finished", "answers", "skipped", "flagged", "total_ms")
_SHIFTED = {
    "items": {"id": "item", "key": "text"},
    "contents": {"item_id": "item"},
    "slots": {"item_id": "item", "last_seq": "seq"},
    "presentations": {"id": "text", "item_id": "item"},
    "events": {"seq": "seq", "key": "text", "item_id": "item"},
    "standing": {"seq": "seq", "item_id": "item", "presentation_id": "text"},
}


def pairs(count: int, *, prefix: str) -> Iterator[NewItem]:
    """Items with two candidates and a key."""
    for number in range(count):
        candidates = (Candidate(text=f"first answer {number}"), Candidate(text=f"second answer {number}"))
        prompt = Conversation.of_user(f"question {number} of {prefix}")
        yield NewItem(prompt=prompt, candidates=candidates, key=f"{prefix}-{number}")


def answer_to(presentation: Presentation, key: str, strength: int = 1) -> Answer:
    """An answer to a pair."""
    return Answer(
        key=key, presentation_id=presentation.id, kind=EventKind.PAIRWISE, payload={"strength": strength},
        time_taken_ms=4_000,
    )  # fmt: skip


def make(path: Path, events: int, *, open_items: int = 5_000) -> None:
    """Write a store with about `events` events (a multiple of 10,000) and some items that are still open."""
    with FeedbackStore.open(str(path)) as store:
        _seed(store)
    copies = max(1, events // (_SEED_ITEMS * _OVERLAP)) - 1
    _copy(path, copies)
    with FeedbackStore.open(str(path)) as store:
        store.add_items(1, pairs(open_items, prefix="open"))


def _seed(store: FeedbackStore) -> None:
    project = store.create_project("bulk", ProjectSettings(mode=TaskMode.PAIRWISE, overlap=_OVERLAP))
    store.add_items(project.id, pairs(_SEED_ITEMS, prefix="seed"))
    store.create_person("admin", PersonRole.ADMIN, None)
    people = [store.create_person(f"labeler {n}", PersonRole.ANNOTATOR, None) for n in range(_PEOPLE)]
    store.set_members(project.id, [person.id for person in people])
    number = 0
    while True:
        futures = []
        for person in people:
            for presentation in store.lease(project.id, person.id, count=50):
                number += 1
                futures.append(store.submit(person.id, answer_to(presentation, f"seed-{number:08d}", number % 7 - 3)))
        if not futures:
            return
        for future in futures:
            future.result()


def _copy(path: Path, copies: int) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")  # a benchmark's data, made anew if the power fails
    seqs = database.execute("SELECT count(*) FROM events").fetchone()[0]
    shifts = {"item": _SEED_ITEMS, "seq": seqs}
    database.execute("BEGIN")
    database.execute("CREATE TEMP TABLE copies AS WITH RECURSIVE n(k) AS (VALUES(1) UNION ALL SELECT k+1 FROM n "
                     f"WHERE k < {copies}) SELECT k FROM n")  # fmt: skip
    for table, shifted in _SHIFTED.items():
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        values = [_value(column, shifted.get(column), shifts) for column in columns]
        source = f"SELECT {', '.join(values)} FROM copies CROSS JOIN {table}"
        database.execute(f"INSERT INTO {table} ({', '.join(columns)}) {source}")
    for table in ("projects", "tallies"):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        changes = ", ".join(f"{c} = {c} * {copies + 1}" for c in columns if c in _MULTIPLIED)
        database.execute(f"UPDATE {table} SET {changes}")
    database.execute("DELETE FROM cursors")
    _chain(database)
    database.execute("COMMIT")
    database.close()


def _value(column: str, kind: str | None, shifts: dict[str, int]) -> str:
    if kind is None:
        return column
    if kind == "text":
        return f"{column} || '-' || k"
    return f"CASE WHEN {column} > 0 THEN {column} + k * {shifts[kind]} ELSE {column} END"


def _chain(database: sqlite3.Connection) -> None:
    """Hash all events anew; the triggers that forbid it stand aside meanwhile."""
    triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        database.execute(f"DROP TRIGGER {name}")
    before, hashes = "", []
    for row in database.execute("SELECT * FROM events ORDER BY seq"):
        event = event_of(row)
        before = digest(before, event)
        hashes.append((before, event.seq))
    database.executemany("UPDATE events SET sha256 = ? WHERE seq = ?", hashes)
    for _, sql in triggers:
        database.execute(sql)
    database.execute("UPDATE chain SET seq = ?, sha256 = ?", (hashes[-1][1], before))


if __name__ == "__main__":
    begun = time.perf_counter()
    make(Path("bulk.db"), 1_000_000)
    print(f"{time.perf_counter() - begun:.1f} s")
