"""What answers become: pairs, rankings, ratings, demonstrations, corrections."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import pytest
from feedback.aggregated import (
    corrections_of,
    demonstrations_of,
    mean_rankings_of,
    mean_ratings_of,
    pairs_of,
    rankings_of,
    ratings_of,
    red_team_of,
)
from feedback.memory_source import MemorySource, answered_by
from hypothesis import given
from hypothesis import strategies as st

from assent.errors import DataError, StoreError
from assent.types import Comparison


def told(pairs: list[Comparison]) -> set[tuple[str, str, float]]:
    return {(pair.chosen.text, pair.rejected.text, round(pair.probability, 9)) for pair in pairs}


def strength(value: int, person: int = 1) -> tuple[int, str, dict]:
    return person, "pairwise", {"strength": value}


def test_a_ranking_becomes_all_its_pairs_in_one_group_and_ties_are_one_half() -> None:
    pairs = pairs_of([answered_by(["a", "b", "c"], (7, "ranking", {"ranks": [2, 1, 2]}))])
    assert told(pairs) == {("b", "a", 1.0), ("b", "c", 1.0), ("a", "c", 0.5)}
    assert {pair.group for pair in pairs} == {"item 1"}
    assert {(p.provenance.source, p.provenance.who, p.provenance.detail) for p in pairs} == {
        ("studio", "person 7", "event 1")
    }


@given(st.lists(st.integers(1, 5), min_size=2, max_size=9))
def test_the_pairs_of_a_ranking_say_exactly_what_its_ranks_say(ranks: list[int]) -> None:
    texts = [f"text {place}" for place in range(len(ranks))]
    pairs = pairs_of([answered_by(texts, (1, "ranking", {"ranks": ranks}))])
    rank = dict(zip(texts, ranks, strict=True))
    assert len(pairs) == math.comb(len(ranks), 2)
    assert {frozenset((p.chosen.text, p.rejected.text)) for p in pairs} == {
        frozenset(pair) for pair in combinations(texts, 2)
    }
    for pair in pairs:
        better, worse = rank[pair.chosen.text], rank[pair.rejected.text]
        assert pair.probability == (0.5 if better == worse else 1.0) and better <= worse


@pytest.mark.parametrize(
    ("value", "chosen", "probability", "margin"),
    [(-3, "a", 1.0, 1.0), (-1, "a", 2 / 3, 1 / 3), (0, "a", 0.5, 0.0), (2, "b", 5 / 6, 2 / 3), (3, "b", 1.0, 1.0)],
)
def test_a_strength_is_a_probability_or_a_margin_or_only_a_side(
    value: int, chosen: str, probability: float, margin: float
) -> None:
    answered = [answered_by(["a", "b"], strength(value))]
    (soft,) = pairs_of(answered)
    assert (soft.chosen.text, soft.margin) == (chosen, 0.0) and soft.probability == pytest.approx(probability)
    (by_margin,) = pairs_of(answered, labels="margin")
    assert by_margin.chosen.text == chosen and by_margin.margin == pytest.approx(margin)
    assert by_margin.probability == (0.5 if value == 0 else 1.0)
    plain = pairs_of(answered, labels="binary")
    assert told(plain) == (set() if value == 0 else {(chosen, "ab".replace(chosen, ""), 1.0)})


def test_disagreement_becomes_a_soft_label_or_stays_votes_or_goes_to_the_majority() -> None:
    ranked = [(person, "ranking", {"ranks": ranks}) for person, ranks in ((1, [1, 2]), (2, [1, 2]), (3, [2, 1]))]
    answered = [answered_by(["a", "b"], *ranked)]
    (soft,) = pairs_of(answered)
    assert told([soft]) == {("a", "b", round(2 / 3, 9))}
    assert (soft.provenance.who, soft.provenance.detail) == ("people 1, 2, 3", "events 1, 2, 3")
    votes = pairs_of(answered, consensus="votes")
    assert [(v.chosen.text, v.provenance.who) for v in votes] == [
        ("a", "person 1"),
        ("a", "person 2"),
        ("b", "person 3"),
    ]
    assert told(pairs_of(answered, consensus="majority")) == {("a", "b", 1.0)}


def test_weights_decide_how_much_each_person_counts_and_zero_silences() -> None:
    answered = [answered_by(["a", "b"], strength(-3, 1), strength(3, 2), strength(3, 3))]
    assert told(pairs_of(answered, weights={1: 4.0})) == {("a", "b", round(4 / 6, 9))}
    assert told(pairs_of(answered, weights={1: 2.0}, consensus="majority")) == {("a", "b", 0.5)}
    assert told(pairs_of(answered, weights={2: 0.0, 3: 0.0})) == {("a", "b", 1.0)}
    assert pairs_of(answered, weights={1: 0.0, 2: 0.0, 3: 0.0}) == []
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="weight of person 2"):
            pairs_of(answered, weights={2: wrong})


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 9)), min_size=1, max_size=6),
)
def test_the_soft_label_is_the_weighted_mean_in_exact_arithmetic(said: list[tuple[int, int]]) -> None:
    answered = [answered_by(["a", "b"], *(strength(value, person) for person, (value, _) in enumerate(said)))]
    (pair,) = pairs_of(answered, weights={person: float(weight) for person, (_, weight) in enumerate(said)})
    mean = sum(w * (Fraction(1, 2) - Fraction(s, 6)) for s, w in said) / sum(w for _, w in said)
    assert pair.probability == pytest.approx(float(max(mean, 1 - mean)), abs=1e-12)
    assert pair.probability >= 0.5
    if mean != Fraction(1, 2):
        assert pair.chosen.text == ("a" if mean > Fraction(1, 2) else "b")


def test_several_answers_of_one_person_to_one_pair_count_as_one_person() -> None:
    answered = [answered_by(["a", "b"], strength(-3, 1), strength(-3, 1), strength(-3, 1), strength(3, 2))]
    assert told(pairs_of(answered)) == {("a", "b", 0.5)}


def test_ratings_compare_by_their_mean_and_a_single_criterion_can_be_taken_alone() -> None:
    ratings = {"helpful": [7, 2, 2], "honest": [1, 5, 6]}
    answered = [answered_by(["a", "b", "c"], (1, "rating", {"ratings": ratings}))]
    assert told(pairs_of(answered)) == {("a", "b", 1.0), ("c", "b", 1.0), ("a", "c", 0.5)}
    assert told(pairs_of(answered, criterion="honest")) == {("b", "a", 1.0), ("c", "a", 1.0), ("c", "b", 1.0)}
    assert pairs_of(answered, criterion="funny") == []
    margins = {
        (p.chosen.text, p.rejected.text): p.margin for p in pairs_of(answered, criterion="helpful", labels="margin")
    }
    assert margins == {("a", "b"): pytest.approx(5 / 6), ("a", "c"): pytest.approx(5 / 6), ("b", "c"): 0.0}


def test_ranks_per_criterion_are_read_from_the_same_answer() -> None:
    payload = {"ranks": [1, 2], "criteria": {"harmless": [2, 1]}}
    answered = [answered_by(["a", "b"], (1, "ranking", payload))]
    assert told(pairs_of(answered)) == {("a", "b", 1.0)}
    assert told(pairs_of(answered, criterion="harmless")) == {("b", "a", 1.0)}


def test_good_is_better_than_bad_and_two_good_ones_say_nothing() -> None:
    answered = [answered_by(["a", "b", "c", "d"], (1, "good_bad", {"good": [True, False, True, None], "reasons": []}))]
    assert told(pairs_of(answered)) == {("a", "b", 1.0), ("c", "b", 1.0)}


def test_a_correction_alone_says_that_the_edit_is_better_and_nothing_else() -> None:
    answered = [answered_by(["a", "b", "c"], (1, "correction", {"slot": 1, "text": "b, mended"}))]
    assert told(pairs_of(answered)) == {("b, mended", "b", 1.0)}
    (correction,) = corrections_of(answered)
    assert (correction.original.text, correction.edited.text) == ("b", "b, mended")
    (shown,) = demonstrations_of(answered)
    assert shown.conversation.messages[-1].content == "b, mended"
    assert shown.provenance.detail == "event 1"


def test_a_correction_of_what_is_called_the_best_is_edited_over_chosen_over_rejected() -> None:
    answered = [answered_by(["a", "b", "c"], (1, "correction", {"slot": 1, "text": "mended", "ranks": [2, 1, 2]}))]
    assert told(pairs_of(answered)) == {
        ("mended", "b", 1.0), ("mended", "a", 1.0), ("mended", "c", 1.0), ("b", "a", 1.0), ("b", "c", 1.0),
        ("a", "c", 0.5),
    }  # fmt: skip


def test_a_correction_with_ranks_says_nothing_of_what_was_ranked_above() -> None:
    answered = [answered_by(["a", "b", "c"], (1, "correction", {"slot": 1, "text": "mended", "ranks": [1, 2, 3]}))]
    assert told(pairs_of(answered)) == {
        ("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0), ("mended", "b", 1.0), ("mended", "c", 1.0),
    }  # fmt: skip


def test_an_edit_that_changes_nothing_makes_no_correction_and_no_pair_with_itself() -> None:
    answered = [answered_by(["a", "b"], (1, "correction", {"slot": 0, "text": " a "}))]
    assert told(pairs_of(answered)) == set()
    assert corrections_of(answered) == []


def test_equal_and_blank_completions_make_no_pairs() -> None:
    answered = [answered_by(["same", " same ", "", "other"], (1, "ranking", {"ranks": [1, 2, 3, 4]}))]
    assert told(pairs_of(answered)) == {("same", "other", 1.0)}


def test_control_items_and_silent_repeats_stay_out_unless_asked_for() -> None:
    kept = MemorySource()
    control, plain = kept.add("a", "b", control_answer={"ranks": [1, 2]}), kept.add("a", "b")
    kept.say(control, 1, "ranking", {"ranks": [1, 2]})
    kept.say(plain, 1, "ranking", {"ranks": [1, 2]})
    kept.say(plain, 1, "ranking", {"ranks": [2, 1]}, repeat=True)
    answered = kept.answered_items(1)
    assert told(pairs_of(answered)) == {("a", "b", 1.0)}
    assert len(pairs_of(answered, control_items=True, consensus="votes")) == 2
    assert len(pairs_of(answered, repeats=True, consensus="votes")) == 2


def test_skips_flags_and_demonstrations_compare_nothing() -> None:
    answers = [
        (1, "skip", {"reason": "unclear", "note": ""}),
        (2, "flag", {"flag": "harmful", "slot": None, "note": ""}),
        (3, "demonstration", {"text": "written"}),
    ]
    answered = [answered_by(["a", "b"], *answers)]
    assert pairs_of(answered) == rankings_of(answered) == ratings_of(answered) == []
    assert [shown.conversation.messages[-1].content for shown in demonstrations_of(answered)] == ["written"]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [("a", {("x", "y", 1.0)}), ("b", {("y", "x", 1.0)}), ("tie", {("x", "y", 0.5)}), ("both_bad", set())],
)
def test_a_chat_turn_is_a_comparison_of_its_own(choice: str, wanted: set) -> None:
    turn = {"conversation": [{"role": "user", "content": "hi"}], "a": "x", "b": "y", "choice": choice}
    pairs = pairs_of([answered_by([], (1, "chat_turn", turn))])
    assert told(pairs) == wanted
    assert all(pair.prompt.last_user_text == "hi" and pair.group == "turn 1" for pair in pairs)
    assert pairs_of([answered_by([], (1, "chat_turn", turn | {"b": None}))]) == []


def test_ratings_and_labels_keep_their_scale_and_person() -> None:
    answers = [
        (1, "rating", {"ratings": {"helpful": [7, None]}}),
        (2, "rating", {"ratings": {"helpful": [4, 1]}}),
        (3, "good_bad", {"good": [True, False], "reasons": []}),
    ]
    answered = [answered_by(["a", "b"], *answers)]
    votes = [(r.completion.text, r.criterion, r.score, r.provenance.who) for r in ratings_of(answered)]
    assert votes == [
        ("a", "helpful", 7.0, "person 1"), ("a", "helpful", 4.0, "person 2"), ("b", "helpful", 1.0, "person 2"),
        ("a", "overall", 1.0, "person 3"), ("b", "overall", 0.0, "person 3"),
    ]  # fmt: skip
    means = {(r.completion.text, r.criterion): r.score for r in mean_ratings_of(answered, weights={1: 2.0})}
    assert means == {("a", "helpful"): 6.0, ("b", "helpful"): 1.0, ("a", "overall"): 1.0, ("b", "overall"): 0.0}


def test_rankings_are_each_persons_own_or_by_mean_rank() -> None:
    answers = [(person, "ranking", {"ranks": r}) for person, r in ((1, [1, 2, 3]), (2, [1, 3, 2]), (3, [2, 1, 3]))]
    answered = [answered_by(["a", "b", "c"], *answers)]
    assert [ranking.ranks for ranking in rankings_of(answered)] == [(1, 2, 3), (1, 3, 2), (2, 1, 3)]
    (mean,) = mean_rankings_of(answered)
    assert mean.ranks == (1, 2, 3) and mean.provenance.who == "people 1, 2, 3"
    (two,) = rankings_of([answered_by(["a", "b"], strength(2))])
    assert two.ranks == (2, 1)


def test_red_team_talks_become_rows_with_what_was_reached() -> None:
    payload = {"conversation": [{"role": "user", "content": "say it"}], "reached": 4, "note": "nearly"}
    (talk,) = red_team_of([answered_by([], (5, "red_team", payload), topic="insults")])
    assert (talk.reached, talk.note, talk.topic, talk.provenance.who) == (4, "nearly", "insults", "person 5")
    assert talk.conversation.last_user_text == "say it"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("ranking", {}), ("ranking", {"ranks": ["x", "y"]}), ("pairwise", {"strength": "very"}), ("pairwise", {}),
        ("rating", {"ratings": [1]}), ("good_bad", {"good": 3}), ("correction", {"slot": 9, "text": "x"}),
        ("correction", {"slot": 0}), ("chat_turn", {"conversation": [{"role": "king", "content": ""}], "a": "x"}),
    ],
)  # fmt: skip
def test_a_payload_that_is_none_of_its_kind_names_its_event(kind: str, payload: dict) -> None:
    with pytest.raises(StoreError, match="event 1"):
        pairs_of([answered_by(["a", "b"], (1, kind, payload))])


def test_a_correction_beside_a_ranking_of_the_same_person_keeps_to_the_ranking() -> None:
    answers = [(1, "ranking", {"ranks": [1, 2, 3]}), (1, "correction", {"slot": 1, "text": "mended"})]
    assert told(pairs_of([answered_by(["a", "b", "c"], *answers)])) == {
        ("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0), ("mended", "b", 1.0), ("mended", "c", 1.0),
    }  # fmt: skip
