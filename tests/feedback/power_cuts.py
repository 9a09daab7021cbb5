"""A campaign of power cuts: label on a recording disk, then open what each of many cuts may have left."""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from feedback.disk import RecordingDisk, after_power_cut
from feedback.store_fixtures import annotators, answer, ranking_project

from assent.errors import StoreError
from assent.feedback.store.store import FeedbackStore

_numbers = itertools.count(1)
ANNOTATORS, ITEMS = 4, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of so many cuts, how many lost an acknowledged answer, and how many left a database that is broken."""

    cuts: int
    lost: int
    broken: int
    acknowledged: int


def cut_power(*, synchronous: str, cuts: int, seed: int) -> Outcome:
    """One recorded session of labeling, `cuts` moments of it."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        path = folder / "feedback.db"
        with FeedbackStore.open(str(path)) as store:
            annotators(store, ranking_project(store, count=ITEMS, overlap=2), ANNOTATORS)
        before = {str(path): path.read_bytes()}
        disk = RecordingDisk(f"recording-{next(_numbers)}")
        acknowledged = _label(path, disk, synchronous)
        chance = random.Random(seed)
        lost = broken = 0
        for number in range(cuts):
            moment = chance.randrange(len(disk.steps) + 1)
            left = folder / f"cut-{number}"
            left.mkdir()
            after_power_cut(left, before, disk.steps[:moment], chance)
            needed = {seq for seq, when in acknowledged if when <= moment}
            found = _events_left(left / path.name)
            broken += found is None
            lost += found is not None and not needed <= found
            shutil.rmtree(left)
        return Outcome(cuts=cuts, lost=lost, broken=broken, acknowledged=len(acknowledged))
    finally:
        shutil.rmtree(folder)


def _label(path: Path, disk: RecordingDisk, synchronous: str) -> list[tuple[int, int]]:
    """(event, number of steps on the disk when it was acknowledged)."""
    acknowledged: list[tuple[int, int]] = []

    def label(store: FeedbackStore, person: int) -> None:
        while shown := store.lease(1, person):
            event = store.submit(person, answer(shown[0])).result()
            acknowledged.append((event.seq, len(disk.steps)))

    with FeedbackStore.open(str(path), connect=disk.connect(synchronous=synchronous)) as store:
        threads = [threading.Thread(target=label, args=(store, person)) for person in range(1, ANNOTATORS + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return acknowledged


def _events_left(path: Path) -> set[int] | None:
    """The events of a database after a cut, None if it is broken; the store must open and write again."""
    try:
        with FeedbackStore.open(str(path)) as store:
            events = store.events(limit=10_000)
            store.verify_chain()
            store.add_guideline(1, "after the cut", "nobody")
        with sqlite3.connect(path) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    except (StoreError, sqlite3.Error, ValueError):  # damaged text may be no JSON
        return None
    return {event.seq for event in events} if verdict == "ok" else None
