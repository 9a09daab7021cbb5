"""Adaptive overlap: people are asked again where they contradict each other or the reward model, and no more after."""

from __future__ import annotations

import random

import pytest
from feedback.store_fixtures import Clock, annotators, clock, postgres_server, sqlite_store, store, store_url

from assent.feedback.quality.overlap import needs_more
from assent.feedback.records import Answer, Candidate, EventKind, NewItem, ProjectSettings, TaskMode
from assent.feedback.refusals import Invalid, NotFound, Taken
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

__all__ = ["clock", "postgres_server", "sqlite_store", "store", "store_url"]


def pairs(count: int = 1, **fields: object) -> list[NewItem]:
    return [
        NewItem(
            prompt=Conversation.of_user(f"question {number}"),
            candidates=(Candidate(text="a"), Candidate(text="b")),
            **fields,  # type: ignore[arg-type]
        )
        for number in range(count)
    ]


def project_of(store: FeedbackStore, new: list[NewItem], *, overlap: int, most: int, people: int = 6) -> int:
    settings = ProjectSettings(mode=TaskMode.PAIRWISE, overlap=overlap, adaptive_overlap=most, lease_s=100.0)
    project = store.create_project("pairs", settings).id
    store.add_items(project, new)
    annotators(store, project, people)
    return project


def say(store: FeedbackStore, project: int, person: int, first: bool) -> int:
    """The person's next item answered: whether the first candidate (not the one shown first) is better."""
    (shown,) = store.lease(project, person)
    strength = -2 if first == (shown.order[0] == 0) else 2
    answer = Answer(key=f"{person}.{shown.id}.{random.random()}", presentation_id=shown.id, kind=EventKind.PAIRWISE,
                    payload={"strength": strength})  # fmt: skip
    return store.submit(person, answer).result().seq


def wanted(store: FeedbackStore, item_id: int = 1) -> int | None:
    return store.item(item_id).new.overlap


def test_two_who_agree_are_enough_and_two_who_do_not_are_asked_about(store: FeedbackStore) -> None:
    project = project_of(store, pairs(2), overlap=2, most=4)
    for person, first in ((1, True), (2, True), (1, True), (2, False)):
        say(store, project, person, first)
    assert (wanted(store, 1), wanted(store, 2)) == (2, 3)
    assert [shown.item.id for shown in store.lease(project, 3, count=5)] == [2]
    say(store, project, 3, True)
    assert wanted(store, 2) == 4  # two to one may still be tied
    say(store, project, 4, True)
    assert wanted(store, 2) == 4 and store.lease(project, 5) == []
    progress = store.progress(project)
    assert (progress.labels_wanted, progress.labels_given, progress.finished) == (6, 6, 2)


def test_who_contradicts_the_reward_model_is_asked_about(store: FeedbackStore) -> None:
    project = project_of(store, pairs(3, predicted=(2.0, -1.0)), overlap=1, most=3)
    for first in (True, False, False):
        say(store, project, 1, first)
    assert [wanted(store, item) for item in (1, 2, 3)] == [1, 2, 2]
    say(store, project, 2, False)  # two against the model cannot be outvoted
    say(store, project, 2, True)  # one to one
    assert [wanted(store, item) for item in (1, 2, 3)] == [1, 2, 3]
    say(store, project, 3, True)
    assert store.lease(project, 4) == [] and store.progress(project).finished == 3


def test_predictions_that_come_later_open_items_and_close_them(store: FeedbackStore) -> None:
    project = project_of(store, pairs(2), overlap=1, most=3)
    say(store, project, 1, True)
    say(store, project, 1, False)
    assert store.lease(project, 2) == []
    store.set_predictions(project, {1: [-2.0, 1.0], 2: [-2.0, 1.0]})
    assert (wanted(store, 1), wanted(store, 2)) == (2, 1)
    assert store.item(1).new.predicted == (-2.0, 1.0) and store.progress(project).labels_wanted == 3
    store.set_predictions(project, {1: [2.0, 1.0]})
    assert wanted(store, 1) == 1 and store.lease(project, 2) == []


def test_a_prediction_has_one_finite_number_for_each_candidate_of_an_item_of_the_project(store: FeedbackStore) -> None:
    project = project_of(store, pairs(1), overlap=1, most=3)
    for scores in ([1.0], [1.0, float("nan")]):
        with pytest.raises(Invalid, match="finite number"):
            store.set_predictions(project, {1: scores})
    with pytest.raises(NotFound):
        store.set_predictions(project, {2: [0.0, 1.0]})
    with pytest.raises(Invalid, match="finite number"):
        store.add_items(project, pairs(1, predicted=(1.0, 2.0, 3.0)))


def test_undoing_takes_back_what_the_answer_caused(store: FeedbackStore) -> None:
    project = project_of(store, pairs(1), overlap=2, most=3)
    say(store, project, 1, True)
    seq = say(store, project, 2, False)
    (lease,) = store.lease(project, 3)
    store.undo(2, seq, "undo it").result()
    assert wanted(store) == 2
    say(store, project, 2, True)  # the item came back to the one who undid
    assert wanted(store) == 2 and store.progress(project).finished == 1
    answer = Answer(key="later", presentation_id=lease.id, kind=EventKind.PAIRWISE, payload={"strength": 1})
    store.submit(3, answer).result()  # the third holds the lease and is not sent away
    progress = store.progress(project)
    assert (wanted(store), progress.labels_given, progress.labels_wanted, progress.finished) == (3, 3, 3, 1)


def test_a_lease_that_ends_after_the_item_is_settled_asks_nobody_else(store: FeedbackStore, clock: Clock) -> None:
    project = project_of(store, pairs(1), overlap=2, most=3)
    say(store, project, 1, True)
    seq = say(store, project, 2, False)
    (lease,) = store.lease(project, 3)
    store.undo(2, seq, "undo it").result()
    say(store, project, 2, True)
    clock.now += 1000
    assert store.lease(project, 4) == []
    with pytest.raises(Taken):
        answer = Answer(key="later", presentation_id=lease.id, kind=EventKind.PAIRWISE, payload={"strength": 1})
        store.submit(3, answer).result()


def test_other_limits_of_the_project_hold_for_judged_items_too(store: FeedbackStore) -> None:
    project = project_of(store, [*pairs(2), *pairs(1, overlap=2)], overlap=2, most=0)
    for person, first in ((1, True), (1, True), (1, True), (2, False), (2, True), (2, False)):
        say(store, project, person, first)
    settings = store.project(project).settings
    store.update_project(project, ProjectSettings(mode=settings.mode, overlap=2, adaptive_overlap=5))
    assert [wanted(store, item) for item in (1, 2, 3)] == [3, 2, 2]  # the third came with an overlap of its own
    store.update_project(project, ProjectSettings(mode=settings.mode, overlap=3, adaptive_overlap=5))
    assert [wanted(store, item) for item in (1, 2, 3)] == [3, 3, 2]
    store.update_project(project, ProjectSettings(mode=settings.mode, overlap=1))
    assert [wanted(store, item) for item in (1, 2, 3)] == [2, 2, 2]
    progress = store.progress(project)
    assert (progress.finished, progress.labels_given, progress.labels_wanted) == (3, 6, 6)


def test_a_skip_is_no_contradiction_and_a_ranking_needs_what_its_most_disputed_pair_does(store: FeedbackStore) -> None:
    project = store.create_project("ranks", ProjectSettings(overlap=2, adaptive_overlap=3)).id
    three = tuple(Candidate(text=text) for text in "abc")
    store.add_items(project, [NewItem(prompt=Conversation.of_user("q"), candidates=three, key="1")])
    annotators(store, project, 4)
    (shown,) = store.lease(project, 1)
    skip = Answer(key="skip", presentation_id=shown.id, kind=EventKind.SKIP, payload={"reason": "unclear"})
    store.submit(1, skip).result()
    for person, ranks, then in ((2, (1, 2, 3), 2), (3, None, 2)):
        given = store.lease(project, person)
        if ranks is None:
            assert given == []
            continue
        slots = [ranks[position] for position in given[0].order]
        answer = Answer(key="r", presentation_id=given[0].id, kind=EventKind.RANKING, payload={"ranks": slots})
        store.submit(person, answer).result()
        assert wanted(store) == then
    store.set_predictions(project, {1: [1.0, -2.0, 2.0]})  # the model puts c first, the person last
    assert wanted(store) == 3


@pytest.mark.parametrize("seed", range(6))
def test_whatever_people_do_an_item_wants_what_the_rule_says_and_no_slot_is_lost(
    sqlite_store: FeedbackStore, clock: Clock, seed: int
) -> None:
    store, chance = sqlite_store, random.Random(seed)
    project = project_of(store, [*pairs(3), *pairs(2, predicted=(1.5, -1.5))], overlap=1 + seed % 2, most=4)
    store.add_items(project, pairs(2))
    held: dict[tuple[int, str], None] = {}
    kept: list[tuple[int, int]] = []
    for step in range(150):
        person, what = chance.randint(1, 6), chance.random()
        if what < 0.4:
            held |= {(person, shown.id): None for shown in store.lease(project, person, count=chance.randint(1, 2))}
        elif what < 0.8 and held:
            person, shown_id = chance.choice(list(held))
            answer = Answer(key=f"step {step}", presentation_id=shown_id, kind=EventKind.PAIRWISE,
                            payload={"strength": chance.choice([-2, -2, 2, 0])})  # fmt: skip
            try:
                kept.append((person, store.submit(person, answer).result().seq))
            except Taken:
                del held[person, shown_id]
        elif what < 0.9 and kept:
            person, seq = kept.pop(chance.randrange(len(kept)))
            store.undo(person, seq, f"step {step}").result()
        elif what < 0.95:
            store.set_predictions(project, {chance.randint(1, 7): [chance.uniform(-2, 2), 0.0]})
        else:
            clock.now += chance.choice([10, 60, 101])
        _holds(store, project)
    for turn in range(200):  # everybody who is let works until nothing is left: every item closes
        clock.now += 1000
        if not (given := store.lease(project, turn % 6 + 1)):
            continue
        answer = Answer(key=f"end {turn}", presentation_id=given[0].id, kind=EventKind.PAIRWISE,
                        payload={"strength": chance.choice([-2, 2])})  # fmt: skip
        store.submit(turn % 6 + 1, answer).result()
    _holds(store, project)
    assert store.progress(project).finished == 7


def _holds(store: FeedbackStore, project: int) -> None:
    settings, progress = store.project(project).settings, store.progress(project)
    answered = {one.item.id: one for one in store.answered_items(project)}
    overlaps, finished = [], 0
    for item in store.items(project):
        one = answered.get(item.id)
        given = len(one.events) if one else 0
        more = one is not None and given >= settings.overlap and needs_more(one, most=settings.adaptive_overlap)
        assert item.new.overlap == max(settings.overlap, given) + more
        overlaps.append(item.new.overlap or 0)
        finished += given >= (item.new.overlap or 0)
    assert progress.labels_wanted == sum(overlaps) and progress.finished == finished
    assert progress.labels_given == sum(len(one.events) for one in answered.values())
