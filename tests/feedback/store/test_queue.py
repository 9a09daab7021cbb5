"""Leases: who is asked what, in which order, for how long, and never more people than wanted."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from feedback.store_fixtures import (
    Clock,
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

from assent.feedback.records import Answer, EventKind, ProjectSettings, TaskMode
from assent.feedback.refusals import NotFound, Taken
from assent.feedback.store.store import FeedbackStore

__all__ = ["clock", "postgres_server", "sqlite_store", "store", "store_url"]


def test_no_two_people_get_one_slot(store: FeedbackStore) -> None:
    project = ranking_project(store, count=2)
    people = annotators(store, project, 3)
    assert [shown.item.id for shown in store.lease(project, people[0])] == [1]
    assert [shown.item.id for shown in store.lease(project, people[1])] == [2]
    assert store.lease(project, people[2]) == []


def test_a_reloaded_page_gets_the_same_items_in_the_same_order(store: FeedbackStore) -> None:
    project = ranking_project(store, count=9)
    (person,) = annotators(store, project, 1)
    first = store.lease(project, person, count=3)
    assert store.lease(project, person, count=3) == first
    assert store.lease(project, person, count=2) == first[:2]
    assert store.lease(project, person, count=4)[:3] == first
    assert store.presentation(first[0].id, person) == first[0]


def test_an_expired_lease_goes_to_somebody_else(store: FeedbackStore, clock: Clock) -> None:
    project = ranking_project(store, count=1, lease_s=100.0)
    people = annotators(store, project, 2)
    store.lease(project, people[0])
    clock.now += 99
    assert store.lease(project, people[1]) == []
    clock.now += 1
    assert len(store.lease(project, people[1])) == 1
    assert store.lease(project, people[0]) == []


def test_a_renewed_lease_lasts_longer_and_an_ended_one_cannot_be_renewed(store: FeedbackStore, clock: Clock) -> None:
    project = ranking_project(store, count=1, lease_s=100.0)
    people = annotators(store, project, 2)
    shown = store.lease(project, people[0])[0]
    clock.now += 90
    assert store.renew(shown.id, people[0])
    assert not store.renew(shown.id, people[1])
    clock.now += 90
    assert store.lease(project, people[1]) == []
    clock.now += 11
    assert not store.renew(shown.id, people[0])


def test_a_released_item_goes_to_the_next_person(store: FeedbackStore) -> None:
    project = ranking_project(store, count=1)
    people = annotators(store, project, 2)
    shown = store.lease(project, people[0])[0]
    with pytest.raises(NotFound):
        store.release(shown.id, people[1])
    store.release(shown.id, people[0])
    store.release(shown.id, people[0])
    assert store.lease(project, people[1])[0].item.id == 1
    assert store.progress(project).leased == 1


def test_a_late_answer_is_kept_while_there_is_room_and_refused_after(store: FeedbackStore, clock: Clock) -> None:
    project = ranking_project(store, count=2, lease_s=100.0)
    people = annotators(store, project, 2)
    late = store.lease(project, people[0], count=2)
    clock.now += 200
    assert store.submit(people[0], answer(late[0])).result().item_id == 1
    assert [shown.item.id for shown in store.lease(project, people[1], count=2)] == [2]
    with pytest.raises(Taken):
        store.submit(people[0], answer(late[1])).result()


def test_a_late_answer_to_an_item_leased_again_closes_that_lease(store: FeedbackStore, clock: Clock) -> None:
    project = ranking_project(store, count=1, lease_s=100.0)
    (person,) = annotators(store, project, 1)
    late = store.lease(project, person)[0]
    clock.now += 200
    assert store.lease(project, person)[0].id != late.id
    store.submit(person, answer(late)).result()
    assert store.progress(project).leased == 0
    assert store.lease(project, person) == []


def test_declined_topics_are_never_shown(store: FeedbackStore) -> None:
    project = ranking_project(store)
    store.add_items(project, items(40, prefix="a", topic="violence"))
    store.add_items(project, items(40, prefix="b", topic="cooking"))
    store.add_items(project, items(3, prefix="g", topic="violence", control_answer={"ranks": [1, 2, 3]}))
    store.update_project(project, ProjectSettings(control_share=0.5))
    (person,) = annotators(store, project, 1)
    store.update_person(person, topics_declined=("violence",))
    assert {shown.item.new.topic for shown in store.lease(project, person, count=20)} == {"cooking"}
    store.update_person(person, topics_declined=())
    assert "violence" in {shown.item.new.topic for shown in store.lease(project, person, count=40)}


def test_the_order_shown_is_shuffled_stored_and_turned_back(store: FeedbackStore) -> None:
    project = ranking_project(store, count=50)
    (person,) = annotators(store, project, 1)
    orders = Counter()
    for shown in store.lease(project, person, count=50):
        orders[shown.order] += 1
        sent = Answer(
            key=shown.id,
            presentation_id=shown.id,
            kind=EventKind.RANKING,
            payload={"ranks": [int(candidate.text[-1]) + 1 for candidate in shown.shown]},
        )
        event = store.submit(person, sent).result()
        assert event.payload == {"ranks": [1, 2, 3]}
        assert event.order == shown.order
    assert len(orders) == 6


def test_control_items_and_repeats_come_by_share_and_each_only_once(store: FeedbackStore) -> None:
    project = ranking_project(store, count=120, control_share=0.25, repeat_share=0.25)
    store.add_items(project, items(200, prefix="control", control_answer={"ranks": [1, 2, 3]}))
    (person,) = annotators(store, project, 1)
    shown = []
    while page := store.lease(project, person):
        shown.append(page[0])
        store.submit(person, answer(page[0])).result()
    controls = [p for p in shown if p.item.new.control_answer is not None]
    repeats = [p for p in shown if p.repeat]
    assert len(shown) - len(controls) - len(repeats) == 120
    assert len({p.item.id for p in controls}) == len(controls)
    assert len({p.item.id for p in repeats}) == len(repeats)
    assert 0.10 < len(controls) / len(shown) < 0.40  # 240 draws: five standard deviations are 0.14
    assert 0.10 < len(repeats) / len(shown) < 0.40
    place = {p.item.id: place for place, p in enumerate(shown) if not p.repeat}
    assert all(shown.index(p) - place[p.item.id] > 20 for p in repeats)
    progress = store.progress(project)
    assert (progress.items, progress.finished, progress.labels_given) == (120, 120, 120)
    assert progress.answers == len(shown)
    assert [event.repeat for event in store.events(project, limit=10_000)] == [p.repeat for p in shown]


def test_a_control_item_is_asked_of_everybody_whatever_its_overlap(store: FeedbackStore) -> None:
    project = ranking_project(store, count=30, control_share=1.0, overlap=3)
    store.add_items(project, items(1, prefix="control", control_answer={"ranks": [1, 2, 3]}))
    for person in annotators(store, project, 3):
        seen = [store.lease(project, person)[0] for _ in range(1)]
        assert seen[0].item.new.control_answer is not None


def test_criteria_are_asked_by_share_and_always_for_ratings(store: FeedbackStore) -> None:
    project = ranking_project(store, count=200, criteria_share=0.3)
    (person,) = annotators(store, project, 1)
    asked = [bool(shown.criteria) for shown in store.lease(project, person, count=50)]
    assert 0 < sum(asked) < 50
    rating = ranking_project(store, count=1, name="rating", mode=TaskMode.RATING)
    store.set_members(rating, [person])
    assert store.lease(rating, person)[0].criteria == ("helpful", "honest", "harmless")


def test_people_who_are_inactive_are_asked_nothing(store: FeedbackStore) -> None:
    project = ranking_project(store, count=1)
    (person,) = annotators(store, project, 1)
    store.update_person(person, active=False)
    assert store.lease(project, person) == []


def test_a_clock_that_jumps_forward_loses_no_answer(store: FeedbackStore, clock: Clock) -> None:
    project = ranking_project(store, count=3)
    (person,) = annotators(store, project, 1)
    shown = store.lease(project, person, count=3)
    clock.now += 365 * 86400
    for presentation in shown:
        store.submit(person, answer(presentation)).result()
    clock.now -= 365 * 86400
    assert store.progress(project).finished == 3
    assert store.verify_chain() == 3


def test_a_clock_that_jumps_back_does_not_keep_items_for_ever(store: FeedbackStore, clock: Clock) -> None:
    project = ranking_project(store, count=1, lease_s=100.0)
    people = annotators(store, project, 2)
    store.lease(project, people[0])
    clock.now -= 10 * 86400
    assert store.lease(project, people[1]) == []
    clock.now += 101
    assert len(store.lease(project, people[1])) == 1


def test_what_opens_behind_where_a_person_stands_in_the_queue_is_still_found(sqlite_store: FeedbackStore) -> None:
    project = ranking_project(sqlite_store, count=200, overlap=2)
    first, second = annotators(sqlite_store, project, 2)
    done = []
    for _ in range(3):
        done += [sqlite_store.submit(first, answer(p)).result() for p in sqlite_store.lease(project, first, count=50)]
    held = sqlite_store.lease(project, first)[0]
    assert held.item.id == 151  # 150 open items that are not for this person lie before it
    sqlite_store.undo(first, done[9].seq, "undo").result()
    again = sqlite_store.lease(project, first)[0]
    assert again.item.id == 10
    sqlite_store.release(again.id, first)
    sqlite_store.release(held.id, first)
    assert [p.item.id for p in sqlite_store.lease(project, first, count=2)] == [10, 151]
    sqlite_store.add_items(project, items(1, prefix="urgent", priority=9.0))
    assert sqlite_store.lease(project, first, count=3)[2].item.new.priority == 9.0
    sqlite_store.set_priorities(project, {190: 20.0})
    assert sqlite_store.lease(project, first, count=4)[3].item.id == 190
    assert [p.item.id for p in sqlite_store.lease(project, second, count=2)] == [190, 201]


@pytest.mark.parametrize("people", [32, pytest.param(200, marks=pytest.mark.slow)])
def test_many_annotators_at_once_fill_every_item_exactly(sqlite_store: FeedbackStore, people: int) -> None:
    _work_at_once(sqlite_store, people=people, count=2 * people, overlap=3)


def test_many_annotators_at_once_fill_every_item_exactly_on_both(store: FeedbackStore) -> None:
    _work_at_once(store, people=12, count=20, overlap=3)


def _work_at_once(store: FeedbackStore, *, people: int, count: int, overlap: int) -> None:
    project = ranking_project(store, count=count, overlap=overlap)
    ids = annotators(store, project, people)
    seen: list[tuple[int, int]] = []
    errors: list[BaseException] = []

    def label(person: int) -> None:
        chance = random.Random(person)
        try:
            while shown := store.lease(project, person, count=chance.choice((1, 1, 2, 3))):
                for presentation in shown:
                    if chance.random() < 0.05:
                        store.release(presentation.id, person)
                        continue
                    event = store.submit(person, answer(presentation)).result()
                    if chance.random() < 0.05:
                        store.undo(person, event.seq, f"undo {event.seq}").result()
                    else:
                        seen.append((presentation.item.id, person))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=label, args=(person,)) for person in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    while left := [(p, shown) for p in ids for shown in store.lease(project, p)]:  # what was given back at the end
        for person, presentation in left:
            store.submit(person, answer(presentation)).result()
    answered = store.answered_items(project)
    assert len(answered) == count
    assert {len(item.events) for item in answered} == {overlap}
    assert all(len({event.person_id for event in item.events}) == overlap for item in answered)
    progress = store.progress(project)
    assert (progress.finished, progress.labels_given, progress.leased) == (count, count * overlap, 0)
    assert store.verify_chain() == len(store.events(project, limit=100_000))
