"""The figures equal what a plain loop over standing answers gives, whatever was undone, and stay fast."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from feedback.memory_source import MemorySource, new_item
from feedback.store_fixtures import clock, sqlite_store  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.feedback.exchange.preference_rows import imported_of
from assent.feedback.exchange.store_import import import_items
from assent.feedback.quality.live_figures import LiveFigures
from assent.feedback.quality.statistics import figures
from assent.feedback.quality.tally import Tally
from assent.feedback.quality.tally_files import load_tally, save_tally
from assent.feedback.records import Event, EventKind, Item, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.types import Completion, Conversation, Provenance, Ranking


def of(kept: MemorySource):
    return LiveFigures(kept).of(1)


def word(ranks: list[int], one: int, other: int) -> int:
    return (ranks[one] < ranks[other]) - (ranks[one] > ranks[other])


def alike(one: int, other: int) -> float:
    return 1.0 if one == other else 0.5 if 0 in (one, other) else 0.0


ANSWER = st.tuples(
    st.integers(0, 4),  # item
    st.integers(1, 4),  # person
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.sampled_from(["ranking", "ranking", "ranking", "skip", "flag", "undo", "repeat"]),
    st.permutations(range(3)),
)


@given(st.lists(ANSWER, max_size=40), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_the_figures_are_those_of_a_plain_loop_and_reading_in_two_goes_changes_nothing(said: list, cut: int) -> None:
    kept = MemorySource(settings=ProjectSettings(cost_per_hour=30.0))
    for place in range(5):
        kept.add(
            "a",
            "b",
            "c",
            serves=("policy", "reward_model")[place % 2],
            control_answer={"ranks": [1, 2, 3]} if place == 4 else None,
        )
    tally = Tally(kept, 1)
    for number, (item, person, ranks, kind, order) in enumerate(said):
        if number == cut:
            tally.refresh()
        tell(kept, item + 1, person, ranks, kind, tuple(order), number)
    tally.refresh()
    found = figures(tally, kept.project(1))
    standing = [event for item in range(1, 6) for event in kept.standing(item)]
    answered = [event for event in standing if event.kind is EventKind.RANKING]
    assert found.answers == len(answered)
    assert found.by_kind == {
        kind: count for kind in ("ranking", "flag", "skip") if (count := sum(event.kind == kind for event in standing))
    }
    useful = [event for event in answered if not event.repeat and event.item_id != 5]
    assert found.useful == len(useful)
    hours = sum(event.time_taken_ms for event in kept.record) / 3_600_000
    assert found.hours == pytest.approx(hours)
    if useful:
        assert found.cost_per_useful_label == pytest.approx(30.0 * hours / len(useful))
        share = sum(event.item_id in (1, 3) for event in useful) / len(useful)
        assert found.serves.get("policy", 0.0) == pytest.approx(share)
    shared = [
        alike(word(one.payload["ranks"], *pair), word(other.payload["ranks"], *pair))
        for one, other in combinations(useful, 2)
        if one.item_id == other.item_id
        for pair in combinations(range(3), 2)
    ]
    assert found.agreement.value == (pytest.approx(sum(shared) / len(shared)) if shared else None)
    for person, told in found.people.items():
        own = [event for event in standing if event.person_id == person]
        assert told.answers == sum(event.kind is EventKind.RANKING for event in own)
        assert told.median_ms == (statistics.median(event.time_taken_ms for event in own) if own else 0.0)
        control = [
            statistics.fmean(alike(word(event.payload["ranks"], *pair), 1) for pair in combinations(range(3), 2))
            for event in own
            if event.kind is EventKind.RANKING and event.item_id == 5 and not event.repeat
        ]
        assert told.control == (pytest.approx(statistics.fmean(control)) if control else None)
        firsts = [
            event.order.index(event.payload["ranks"].index(min(event.payload["ranks"]))) == 0
            for event in own
            if event.kind is EventKind.RANKING and event.payload["ranks"].count(min(event.payload["ranks"])) == 1
        ]
        assert told.position.first == (pytest.approx(statistics.fmean(firsts)) if firsts else None)


def tell(
    kept: MemorySource, item: int, person: int, ranks: list[int], kind: str, order: tuple[int, ...], number: int
) -> None:
    """One step, if the store would allow it: one answer of a person to an item, repeats only after it."""
    own = [event for event in kept.standing(item) if event.person_id == person]
    judged = [event for event in own if event.kind is EventKind.RANKING]
    more = {"order": order, "time_taken_ms": 1000 + 7 * number}
    if kind == "undo":
        if own:
            kept.undo(own[-1].seq)
    elif kind == "repeat":
        if judged and not any(event.repeat for event in own):
            kept.say(item, person, "ranking", {"ranks": ranks}, repeat=True, **more)
    elif own:
        return
    elif kind == "ranking":
        kept.say(item, person, "ranking", {"ranks": ranks}, **more)
    else:
        payload = {"skip": {"reason": "unclear", "note": ""}, "flag": {"flag": "broken", "slot": None, "note": ""}}
        kept.say(item, person, kind, payload[kind], **more)


def test_nobody_agrees_by_equal_completions() -> None:
    kept = MemorySource()
    item = kept.add("same", "other", " same")
    kept.say(item, 1, "ranking", {"ranks": [1, 2, 1]})
    kept.say(item, 2, "ranking", {"ranks": [2, 1, 2]})
    assert of(kept).agreement.value == 0.0


def test_skips_and_flags_are_counted_by_their_reasons() -> None:
    kept = MemorySource()
    kept.add("a", "b")
    for person, reason in ((1, "unclear"), (2, "unclear"), (3, "too_long")):
        kept.say(1, person, "skip", {"reason": reason, "note": ""})
    kept.say(1, 4, "flag", {"flag": "harmful", "slot": 0, "note": ""})
    found = of(kept)
    assert (found.skips, found.flags) == ({"unclear": 2, "too_long": 1}, {"harmful": 1})
    assert (found.skipped, found.flagged, found.answers) == (3, 1, 0)
    assert found.agreement.value is None and "two people" in found.agreement.reason


def test_a_silent_repeat_is_held_against_the_first_answer_of_the_same_person() -> None:
    kept = MemorySource()
    for _ in range(3):
        kept.add("a", "b", "c")
    for item, again in ((1, [1, 2, 3]), (2, [3, 2, 1]), (3, [1, 1, 3])):
        kept.say(item, 1, "ranking", {"ranks": [1, 2, 3]})
        kept.say(item, 2, "ranking", {"ranks": [3, 2, 1]})
        kept.say(item, 1, "ranking", {"ranks": again}, repeat=True)
    found = of(kept)
    assert found.self_agreement.value == pytest.approx((1 + 0 + 2.5 / 3) / 3) and found.self_agreement.count == 3
    assert found.people[1].repeats == 3 and found.people[2].self_agreement is None


def test_somebody_who_always_takes_the_first_shown_is_seen() -> None:
    kept = MemorySource()
    for place in range(40):
        item = kept.add("a", "b")
        order = (1, 0) if place % 2 else (0, 1)
        kept.say(item, 1, "pairwise", {"strength": 3 if order[0] == 1 else -3}, order=order)
        kept.say(item, 2, "pairwise", {"strength": -3}, order=order)
    found = of(kept)
    assert (found.people[1].position.first, found.people[2].position.first) == (1.0, 0.5)
    assert found.people[1].position.expected == 0.5 and found.agreement.value == 0.5
    assert found.agreement.low is not None and found.agreement.low < 0.5 < (found.agreement.high or 0)


def test_chat_turns_and_ratings_have_their_place() -> None:
    kept = MemorySource()
    kept.add(prompt="chat")
    turn = {"conversation": [{"role": "user", "content": "x"}], "a": "p", "b": "q", "choice": "b"}
    kept.say(1, 1, "chat_turn", turn, order=(1, 0))
    kept.add("a", "b")
    kept.say(2, 1, "rating", {"ratings": {"helpful": [2, 5], "honest": [3, 5]}})
    kept.say(2, 2, "rating", {"ratings": {"helpful": [1, 7]}})
    found = of(kept)
    assert found.by_kind == {"rating": 2, "chat_turn": 1} and found.agreement.value == 1.0
    assert found.people[1].position.first == 0.5


def test_the_figures_can_be_written_as_json() -> None:
    kept = MemorySource()
    kept.add("a", "b")
    kept.say(1, 1, "pairwise", {"strength": 1})
    assert json.loads(json.dumps(dataclasses.asdict(of(kept))))["people"]["1"]["answers"] == 1


def test_figures_agree_with_the_progress_that_the_store_keeps(sqlite_store: FeedbackStore) -> None:  # noqa: F811
    rankings = [
        Ranking(
            prompt=Conversation.of_user(f"q{n}"), completions=(Completion(text="a"), Completion(text="b")),
            ranks=(1 + n % 2, 2 - n % 2), provenance=Provenance(who=who),
        )
        for n in range(30)
        for who in ("ann", "bob")
    ]  # fmt: skip
    number = sqlite_store.create_project("p", ProjectSettings(mode=TaskMode.RANKING)).id
    import_items(sqlite_store, number, imported_of(rankings, who="file"))
    event = sqlite_store.events(number)[0]
    live = LiveFigures(sqlite_store)
    for _ in range(2):
        progress, found = sqlite_store.progress(number), live.of(number)
        assert (found.answers, found.skipped, found.flagged) == (progress.answers, progress.skipped, progress.flagged)
        assert {person: one.answers for person, one in found.people.items() if one.answers} == {
            person: one.answers for person, one in progress.by_person.items() if one.answers
        }
        if not found.undone:
            sqlite_store.update_person(event.person_id, active=True)
            sqlite_store.undo(event.person_id, event.seq, "undo").result()
    assert found.undone == 1 and found.answers == 59 and found.agreement.value == 1.0


def test_a_tally_on_disk_saves_reading_again_and_is_only_used_where_it_fits(tmp_path: Path) -> None:
    kept = MemorySource()
    for place in range(6):
        kept.add(
            "a",
            "b",
            "c",
            serves="policy" if place % 2 else "",
            control_answer={"ranks": [1, 2, 3]} if place == 5 else None,
        )
        for person in (1, 2):
            ranks = [1 + (place + person) % 3, 2, 1]
            kept.say(place + 1, person, "ranking", {"ranks": ranks}, sha256=f"{place}{person}")
    kept.undo(3)
    tally = Tally(kept, 1)
    tally.refresh()
    save_tally(tally, tmp_path / "tally.npz")
    loaded = load_tally(kept, 1, tmp_path / "tally.npz")
    assert loaded is not None and loaded.refresh() == 0
    kept.say(1, 3, "ranking", {"ranks": [1, 2, 3]})
    kept.undo(1)
    assert loaded.refresh() == 2 and figures(loaded, kept.project(1)) == of(kept)
    other = MemorySource(all_items=kept.all_items, record=[replace(event, sha256="other") for event in kept.record])
    assert load_tally(other, 1, tmp_path / "tally.npz") is None
    assert load_tally(kept, 2, tmp_path / "tally.npz") is None
    whole = (tmp_path / "tally.npz").read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:]):
        (tmp_path / "tally.npz").write_bytes(content)
        load_tally(kept, 1, tmp_path / "tally.npz")


class Many(MemorySource):
    """200,000 answers made page by page: 3 people to an item of 3 completions, 1 in 20 a repeat."""

    def events(self, project_id=None, *, after=0, limit=1000, person_id=None):
        last = min(after + limit, 200_000)
        return [self.event(seq) for seq in range(after + 1, last + 1)]

    def event(self, seq: int) -> Event:
        item, person = seq // 3 % 60_000 + 1, seq % 3 + 1 + 3 * (seq % 7)
        return replace(
            self.template, seq=seq, item_id=item, person_id=person, repeat=seq % 20 == 0,
            payload={"ranks": [1 + seq % 3, 2, 1 + seq % 2]}, time_taken_ms=seq % 60_000,
        )  # fmt: skip

    def items(self, project_id: int, *, after: int = 0, limit: int = 1000) -> list[Item]:
        new = new_item("a", "b", "c")
        last = min(after + limit, 60_000)
        return [Item(id=number, project_id=1, new=new, created_at=0.0) for number in range(after + 1, last + 1)]


@pytest.mark.slow
def test_very_many_answers_are_summed_in_little_time() -> None:
    """Not a timed assertion but for a bound that only a slow algorithm would miss."""
    kept = Many()
    kept.add("a", "b", "c")
    kept.say(1, 1, "ranking", {"ranks": [1, 2, 3]})
    kept.template = kept.record[0]
    tally = Tally(kept, 1)
    assert tally.refresh() == 200_000
    start = time.process_time()
    found = figures(tally, kept.project(1))
    taken = time.process_time() - start
    print(f"figures of 200,000 answers: {taken:.2f} s")
    assert found.answers == 200_000 and len(found.people) == 21
    assert taken < 10
