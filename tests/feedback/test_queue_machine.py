"""Any order of leasing, answering, skipping, undoing, expiring and crashing does what the model does."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from feedback.queue_model import Model
from feedback.store_fixtures import Clock, annotators, items
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from assent.feedback.records import Answer, EventKind, ProjectSettings
from assent.feedback.refusals import NotFound, Taken
from assent.feedback.store.store import FeedbackStore

PEOPLE, LEASE_S = 4, 100.0
PERSON = st.integers(1, PEOPLE)
STEPS = Counter()


@functools.cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        FeedbackStore.open(str(path)).close()
        return path.read_bytes()


class Queue(RuleBasedStateMachine):
    """The store beside the model; every answer of the store is foretold."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.clock = Clock()
        self.copies = 0
        self.given: list[tuple[str, int, int]] = []  # presentation, item, person
        self.kept: dict[int, tuple[str, int, int]] = {}  # event: presentation, item, person
        self.sent: dict[tuple[int, str], tuple[int, str, EventKind]] = {}  # person, key: event, presentation, kind

    @initialize(count=st.integers(1, 5), overlap=st.integers(1, 3))
    def open(self, count: int, overlap: int) -> None:
        (self.folder / "0.db").write_bytes(_empty_store())
        self.store = FeedbackStore.open(str(self.folder / "0.db"), clock=self.clock)
        self.project = self.store.create_project("p", ProjectSettings(overlap=overlap, lease_s=LEASE_S)).id
        self.store.add_items(self.project, items(count))
        annotators(self.store, self.project, PEOPLE)
        self.model = Model(items=count, overlap=overlap, lease_s=LEASE_S)

    @rule(person=PERSON, count=st.integers(1, 3))
    def lease(self, person: int, count: int) -> None:
        self.model.expire(self.clock.now)
        foretold = self.model.expected(person, count)
        shown = self.store.lease(self.project, person, count=count)
        assert [presentation.item.id for presentation in shown] == foretold
        self.model.lease(person, [(p.item.id, p.id) for p in shown], self.clock.now)
        self.given += [(p.id, p.item.id, person) for p in shown]

    @precondition(lambda self: self.given)
    @rule(data=st.data(), skip=st.booleans())
    def submit(self, data: st.DataObject, skip: bool) -> None:
        shown, item, person = data.draw(st.sampled_from(self.given))
        key = data.draw(st.sampled_from(["new", *[key for who, key in self.sent if who == person]]))
        key = f"key {len(self.sent)}" if key == "new" else key
        kind, payload = (EventKind.SKIP, {"reason": "other"}) if skip else (EventKind.RANKING, {"ranks": [1, 1, 1]})
        answer = Answer(key=key, presentation_id=shown, kind=kind, payload=payload)
        self.model.expire(self.clock.now)
        hold = (item, person)
        if (person, key) in self.sent:
            seq, before, first_kind = self.sent[person, key]
            if (shown, kind) == (before, first_kind):
                assert self.store.submit(person, answer).result().seq == seq
            elif kind is not first_kind or self.kept[seq][1] != item or seq in self.model.standing.values():
                with pytest.raises(Taken, match="key"):
                    self.store.submit(person, answer).result()
        elif hold in self.model.standing or not (hold in self.model.live or self.model.room(item)):
            with pytest.raises(Taken):
                self.store.submit(person, answer).result()
        else:
            event = self.store.submit(person, answer).result()
            self.model.submit(item, person, event.seq)
            self.kept[event.seq] = (shown, item, person)
            self.sent[person, key] = (event.seq, shown, kind)

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), person=PERSON)
    def undo(self, data: st.DataObject, person: int) -> None:
        seq = data.draw(st.sampled_from(sorted(self.kept)))
        shown, item, owner = self.kept[seq]
        self.model.expire(self.clock.now)
        key = f"undo {len(self.sent)}"
        if person != owner:
            with pytest.raises(NotFound):
                self.store.undo(person, seq, key).result()
        elif self.model.standing.get((item, owner)) != seq:
            with pytest.raises(Taken):
                self.store.undo(person, seq, key).result()
        else:
            event = self.store.undo(person, seq, key).result()
            assert event.undone_seq == seq
            self.model.undo(item, person, shown, self.clock.now)
            self.sent[person, key] = (event.seq, "", EventKind.UNDO)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        shown, item, person = data.draw(st.sampled_from(self.given))
        self.model.expire(self.clock.now)
        self.store.release(shown, person)
        if self.model.live.get((item, person), (0, "", 0.0))[1] == shown:
            del self.model.live[item, person]

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def crash(self) -> None:
        """Go on with the files as a kill would leave them now."""
        self.copies += 1
        copy = self.folder / f"{self.copies}.db"
        for end in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.folder / f"{self.copies - 1}.db{end}", f"{copy}{end}")
        self.store.close()
        self.store = FeedbackStore.open(str(copy), clock=self.clock)

    @invariant()
    def the_counters_and_the_record_are_the_models(self) -> None:
        if not hasattr(self, "store"):
            return
        STEPS["steps"] += 1
        standing = {(j.item.id, e.person_id): e.seq for j in self.store.answered_items(self.project) for e in j.events}
        assert standing == self.model.standing
        progress = self.store.progress(self.project)
        assert progress.answers + progress.skipped == progress.labels_given == len(standing)
        per_item = Counter(item for item, _ in standing)
        assert all(count <= self.model.overlap for count in per_item.values())
        assert progress.finished == sum(count == self.model.overlap for count in per_item.values())
        assert progress.leased == sum(expiry > self.clock.now for _, _, expiry in self.model.live.values())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify_chain() == len(self.sent)
            self.store.close()
        shutil.rmtree(self.folder)


def _run(examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None
    )
    run_state_machine_as_test(Queue, settings=chosen)


def test_the_queue_does_what_its_model_does() -> None:
    _run(20, 25)


@pytest.mark.slow
def test_the_queue_does_what_its_model_does_for_ten_thousand_steps() -> None:
    STEPS.clear()
    while STEPS["steps"] < 10_000:
        _run(60, 50)
