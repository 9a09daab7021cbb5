"""Answers, their keys, their undoing, and the chain over all events."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from pathlib import Path

import pytest
from feedback.store_fixtures import (
    annotators,
    answer,
    clock,
    items,
    postgres_server,
    ranking_project,
    sqlite_store,
    store,
    store_url,
)

from assent.errors import StoreError
from assent.feedback.records import Answer, EventKind, NewItem, ProjectSettings, TaskMode
from assent.feedback.refusals import Invalid, NotFound, Taken
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

__all__ = ["clock", "postgres_server", "sqlite_store", "store", "store_url"]


@pytest.mark.parametrize("times", range(1, 11))
def test_one_key_sent_many_times_at_once_is_one_event(store: FeedbackStore, times: int) -> None:
    project = ranking_project(store, count=1)
    (person,) = annotators(store, project, 1)
    sent = answer(store.lease(project, person)[0])
    gate = threading.Barrier(times)
    events = []

    def send() -> None:
        gate.wait()
        events.append(store.submit(person, sent).result())

    threads = [threading.Thread(target=send) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events) == times
    assert {event.seq for event in events} == {1}
    assert all(event == events[0] for event in events)
    assert len(store.events(project)) == store.progress(project).answers == 1


def test_one_key_sent_again_after_a_restart_is_the_same_event(store_url: str) -> None:
    with FeedbackStore.open(store_url) as store:
        project = ranking_project(store, count=1)
        (person,) = annotators(store, project, 1)
        sent = answer(store.lease(project, person)[0])
        first = store.submit(person, sent).result()
        undone = store.undo(person, first.seq, "undo").result()
    with FeedbackStore.open(store_url) as store:
        assert store.submit(person, dataclasses.replace(sent, time_taken_ms=7)).result() == first
        for change in ({"payload": {"nonsense": 1}}, {"presentation_id": "gone"}, {"kind": EventKind.SKIP}):
            with pytest.raises(Taken, match="key"):
                store.submit(person, dataclasses.replace(sent, **change)).result()
        assert store.undo(person, first.seq, "undo").result() == undone
        assert len(store.events(project)) == 2


def test_the_same_key_of_two_people_is_two_events(store: FeedbackStore) -> None:
    project = ranking_project(store, count=1, overlap=2)
    people = annotators(store, project, 2)
    events = [store.submit(p, answer(store.lease(project, p)[0], key="k")).result() for p in people]
    assert [event.seq for event in events] == [1, 2]


def test_undo_of_any_depth_brings_items_back_and_keeps_the_history(store: FeedbackStore) -> None:
    project = ranking_project(store, count=5)
    person, other = annotators(store, project, 2)
    events = []
    for _ in range(4):
        events.append(store.submit(person, answer(store.lease(project, person)[0])).result())
    for event in reversed(events):
        store.undo(person, event.seq, f"undo {event.seq}").result()
    assert [shown.item.id for shown in store.lease(project, person, count=5)] == [1, 2, 3, 4, 5]
    assert store.lease(project, other, count=5) == []
    assert store.answered_items(project) == []
    history = store.events(project)
    assert [event.undone_seq for event in history] == [None] * 4 + [4, 3, 2, 1]
    assert history[:4] == events
    again = store.lease(project, person)[0]
    assert again.order == events[0].order
    assert store.submit(person, answer(again)).result().item_id == 1
    assert store.verify_chain() == 9


def test_only_ones_own_standing_answer_can_be_undone(store: FeedbackStore) -> None:
    project = ranking_project(store, count=1)
    person, other = annotators(store, project, 2)
    event = store.submit(person, answer(store.lease(project, person)[0])).result()
    for who, seq in ((other, event.seq), (person, 99), (person, 10**30)):
        with pytest.raises(NotFound):
            store.undo(who, seq, "k").result()
    undo = store.undo(person, event.seq, "undo").result()
    with pytest.raises(Taken):
        store.undo(person, event.seq, "undo again").result()
    with pytest.raises(NotFound):
        store.undo(person, undo.seq, "undo the undo").result()
    assert len(store.events(project)) == 2


def test_nobody_answers_through_anothers_presentation(store: FeedbackStore) -> None:
    project = ranking_project(store, count=1)
    person, other = annotators(store, project, 2)
    shown = store.lease(project, person)[0]
    assert store.presentation(shown.id, other) is None
    with pytest.raises(NotFound):
        store.submit(other, answer(shown)).result()
    with pytest.raises(NotFound):
        store.submit(person, dataclasses.replace(answer(shown), presentation_id="x\0")).result()


def test_a_refused_answer_leaves_nothing_and_does_not_disturb_others(store: FeedbackStore) -> None:
    project = ranking_project(store, count=20)
    (person,) = annotators(store, project, 1)
    shown = store.lease(project, person, count=20)
    futures = []
    for place, presentation in enumerate(shown):
        sent = answer(presentation)
        futures.append(store.submit(person, sent if place % 2 else dataclasses.replace(sent, payload={"ranks": []})))
    refused = [future.exception() for future in futures[::2]]
    assert all(isinstance(error, Invalid) and error.where == "payload.ranks" for error in refused)
    assert sorted(future.result().item_id for future in futures[1::2]) == list(range(2, 21, 2))
    assert store.progress(project).answers == 10
    assert store.verify_chain() == 10


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0", "\ud800", 7])
def test_keys_that_cannot_be_kept_are_refused(store: FeedbackStore, key: str) -> None:
    project = ranking_project(store, count=1)
    (person,) = annotators(store, project, 1)
    shown = store.lease(project, person)[0]
    for refused in (store.submit(person, answer(shown, key=key)), store.undo(person, 1, key)):
        with pytest.raises(Invalid) as caught:
            refused.result()
        assert caught.value.where == "key"


@pytest.mark.parametrize("time_taken_ms", [-1, True, 1.5, None])
def test_times_that_are_none_are_refused(sqlite_store: FeedbackStore, time_taken_ms: int) -> None:
    project = ranking_project(sqlite_store, count=1)
    (person,) = annotators(sqlite_store, project, 1)
    sent = answer(sqlite_store.lease(project, person)[0], time_taken_ms=time_taken_ms)
    with pytest.raises(Invalid, match="milliseconds"):
        sqlite_store.submit(person, sent).result()
    huge = sqlite_store.submit(person, dataclasses.replace(sent, time_taken_ms=10**30)).result()
    assert huge.time_taken_ms == 7 * 86_400_000


def test_an_item_takes_one_answer_of_a_kind_and_a_skip_only_alone(store: FeedbackStore) -> None:
    project = ranking_project(store, count=2)
    (person,) = annotators(store, project, 1)
    shown, second = store.lease(project, person, count=2)
    ranking = store.submit(person, answer(shown)).result()
    edit = Answer(key="e", presentation_id=shown.id, kind=EventKind.CORRECTION, payload={"slot": 0, "text": "better"})
    edited = store.submit(person, edit).result()
    assert edited.payload == {"slot": shown.order[0], "text": "better"}
    skip = Answer(key="s", presentation_id=shown.id, kind=EventKind.SKIP, payload={"reason": "unclear"})
    for refused in (answer(shown), skip):
        with pytest.raises(Taken):
            store.submit(person, refused).result()
    assert store.progress(project).labels_given == 1
    store.undo(person, ranking.seq, "u1").result()
    assert store.progress(project).labels_given == 1
    store.undo(person, edited.seq, "u2").result()
    assert store.progress(project).labels_given == 0
    store.submit(person, skip).result()
    with pytest.raises(Taken):
        store.submit(person, dataclasses.replace(edit, key="e2")).result()
    assert [shown.item.id for shown in store.lease(project, person, count=2)] == [second.item.id]


def test_a_chat_gives_an_event_for_every_turn(store: FeedbackStore) -> None:
    project = store.create_project("chat", ProjectSettings(mode=TaskMode.CHAT)).id
    store.add_items(project, [NewItem(prompt=Conversation(messages=()))])
    (person,) = annotators(store, project, 1)
    shown = store.lease(project, person)[0]
    assert shown.order == ()
    talk = [{"role": "user", "content": "hello"}]
    seqs = []
    for turn in range(3):
        payload = {"conversation": talk * (turn + 1), "a": "hi", "b": "hey", "choice": "a"}
        sent = Answer(key=f"t{turn}", presentation_id=shown.id, kind=EventKind.CHAT_TURN, payload=payload)
        seqs.append(store.submit(person, sent).result().seq)
    progress = store.progress(project)
    assert (progress.answers, progress.labels_given, progress.finished) == (3, 1, 1)
    for seq in seqs:
        store.undo(person, seq, f"undo {seq}").result()
    assert (store.progress(project).labels_given, store.progress(project).leased) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "first_broken"),
    [
        (("UPDATE events SET payload = replace(payload, '1', '2') WHERE seq = 4"), 4),
        (("UPDATE events SET person_id = 2 WHERE seq = 1"), 1),
        (("UPDATE events SET created_at = created_at + 1 WHERE seq = 7"), 7),
        (("UPDATE events SET sha256 = 'x' WHERE seq = 10"), 10),
        (("DELETE FROM events WHERE seq = 5"), 5),
        (("DELETE FROM events WHERE seq = 1"), 1),
        (("DELETE FROM events WHERE seq = 10"), 10),
        (("DELETE FROM events WHERE seq = 5; UPDATE events SET seq = seq - 1 WHERE seq > 5"), 5),
        (
            (
                "UPDATE events SET seq = 99 WHERE seq = 3; UPDATE events SET seq = 3 WHERE seq = 4;"
                "UPDATE events SET seq = 4 WHERE seq = 99"
            ),
            3,
        ),
    ],
)
def test_an_edited_dropped_or_reordered_event_shows(tmp_path: Path, changes: str, first_broken: int) -> None:
    path = tmp_path / "a.db"
    with FeedbackStore.open(str(path)) as store:
        project = ranking_project(store, count=10)
        (person,) = annotators(store, project, 1)
        for shown in store.lease(project, person, count=10):
            store.submit(person, answer(shown)).result()
        assert store.verify_chain() == 10
    connection = sqlite3.connect(path, isolation_level=None)
    for trigger in ("events_are_not_updated", "events_are_not_deleted"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute("BEGIN")
    for change in changes.split(";"):
        connection.execute(change)
    connection.execute("COMMIT")
    connection.close()
    with FeedbackStore.open(str(path)) as store, pytest.raises(StoreError) as caught:
        store.verify_chain()
    assert caught.value.where == f"event {first_broken}"


def test_the_database_itself_refuses_to_change_events(sqlite_store: FeedbackStore, tmp_path: Path) -> None:
    project = ranking_project(sqlite_store, count=1)
    (person,) = annotators(sqlite_store, project, 1)
    sqlite_store.submit(person, answer(sqlite_store.lease(project, person)[0])).result()
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        for sql in ("UPDATE events SET person_id = 9", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
                connection.execute(sql)


def test_a_bug_in_one_operation_does_not_end_the_writing_thread(sqlite_store: FeedbackStore) -> None:
    broken = sqlite_store._write.submit(lambda transaction: transaction.no_such_method())
    with pytest.raises(AttributeError):
        broken.result()
    assert sqlite_store.add_items(ranking_project(sqlite_store), items(3)) == (3, 0)
