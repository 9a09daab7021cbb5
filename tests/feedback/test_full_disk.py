"""A disk without room, or with errors, gives clean refusals; the store goes on by itself when there is room again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from feedback.disk import RecordingDisk, Step
from feedback.store_fixtures import annotators, answer, ranking_project

from assent.errors import StoreError
from assent.feedback.records import Presentation
from assent.feedback.refusals import Unavailable
from assent.feedback.store.store import FeedbackStore

_numbers = itertools.count(1)


@pytest.fixture
def disk() -> RecordingDisk:
    return RecordingDisk(f"full-{next(_numbers)}")


@pytest.fixture
def store(tmp_path: Path, disk: RecordingDisk) -> Iterator[FeedbackStore]:
    with FeedbackStore.open(str(tmp_path / "a.db")) as made:
        annotators(made, ranking_project(made, count=60), 1)
    with FeedbackStore.open(str(tmp_path / "a.db"), connect=disk.connect(checkpoint_pages=10_000)) as opened:
        yield opened


def _refused(store: FeedbackStore, shown: Presentation) -> None:
    with pytest.raises(Unavailable) as caught:
        store.submit(1, answer(shown)).result()
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_log_that_cannot_grow_is_a_clean_refusal_and_recovers(
    store: FeedbackStore, disk: RecordingDisk, room: int
) -> None:
    shown = store.lease(1, 1, count=30)
    kept = [store.submit(1, answer(presentation)).result() for presentation in shown[:10]]
    disk.room = room
    sent, refused = [], 0
    for presentation in shown[10:20]:
        sent.append(answer(presentation))
        error = store.submit(1, sent[-1]).exception()
        assert error is None or (isinstance(error, Unavailable) and "is full" in str(error))
        refused += error is not None
    assert refused
    assert store.events(limit=1) == kept[:1]  # reading goes on
    disk.room = None
    assert [store.submit(1, again).result().item_id for again in sent] == list(range(11, 21))
    assert store.verify_chain() == 20
    assert store.progress(1).answers == 20


def test_every_write_and_sync_may_fail_once_and_nothing_is_lost_or_doubled(
    store: FeedbackStore, disk: RecordingDisk
) -> None:
    acknowledged: dict[str, int] = {}
    refused = 0
    shown = store.lease(1, 1, count=50)
    for place, presentation in enumerate(shown):
        remaining = place % 13  # the write or sync, counted from now, that fails

        def fail(step: Step) -> None:
            nonlocal remaining
            remaining -= 1
            if remaining == -1:
                raise apsw.FullError("no space left") if step.what == "write" else apsw.IOError("sync failed")

        disk.failing = fail
        sent = answer(presentation, key=f"k{place}")
        for _ in range(3):
            try:
                acknowledged[sent.key] = store.submit(1, sent).result().seq
            except Unavailable:
                refused += 1
        disk.failing = None
        acknowledged.setdefault(sent.key, store.submit(1, sent).result().seq)
    assert refused > 10
    events = store.events(1, limit=1000)
    assert {event.key: event.seq for event in events} == acknowledged
    assert len(events) == store.verify_chain() == store.progress(1).answers == 50


def test_a_store_on_a_full_disk_can_still_be_closed_and_opened(tmp_path: Path, disk: RecordingDisk) -> None:
    path = str(tmp_path / "a.db")
    with FeedbackStore.open(path) as made:
        annotators(made, ranking_project(made, count=60), 1)
    with FeedbackStore.open(path, connect=disk.connect()) as store:
        shown = store.lease(1, 1, count=5)
        store.submit(1, answer(shown[0])).result()
        disk.room = 0
        _refused(store, shown[1])
    with FeedbackStore.open(path, connect=disk.connect()) as store:
        assert store.progress(1).answers == 1
        with pytest.raises(StoreError):
            store.add_guideline(1, "long " * 20_000, "nobody")
        disk.room = None
        assert store.submit(1, answer(shown[1])).result().seq == 2


def test_a_new_store_on_a_full_disk_is_a_clean_refusal(tmp_path: Path, disk: RecordingDisk) -> None:
    disk.room = 0
    with pytest.raises(StoreError):
        FeedbackStore.open(str(tmp_path / "a.db"), connect=disk.connect())
    disk.room = None
    FeedbackStore.open(str(tmp_path / "a.db"), connect=disk.connect()).close()
