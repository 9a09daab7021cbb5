"""Agreement over pairs against reference implementations; reliability and scores against what they were drawn by."""

from __future__ import annotations

import dataclasses
import itertools
import json

import krippendorff
import numpy as np
import pytest
from feedback.memory_source import MemorySource
from sklearn.metrics import cohen_kappa_score

from assent.feedback.quality.project_agreement import (
    ItemOpinions,
    ProjectAgreement,
    completion_scores,
    item_opinions,
    project_agreement,
)
from assent.feedback.quality.resampling import Resampling
from assent.seeds import numpy_rng


def drawn(seed: int, items: int = 40, people: int = 4, completions: int = 3) -> list[ItemOpinions]:
    """Noisy opinions around a common order; some people are missing."""
    rng = numpy_rng(seed, "opinions")
    found = []
    for item in range(items):
        quality = rng.normal(size=completions)
        there = [person for person in range(people) if rng.random() < 0.7]
        told = {person: np.round(quality + rng.normal(size=completions)) for person in there}
        found.append((item, completions, {person: dict(enumerate(worth.tolist())) for person, worth in told.items()}))
    return found


def table_of(items: list[ItemOpinions], people: int = 4) -> np.ndarray:
    """Pairs x people, nan where somebody said nothing."""
    rows = []
    for _, completions, opinions in items:
        for first, second in itertools.combinations(range(completions), 2):
            row = [np.nan] * people
            for person, worth in opinions.items():
                row[person] = np.sign(worth[first] - worth[second])
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(4))
def test_alpha_and_kappa_are_those_of_the_table_of_pairs(seed: int) -> None:
    items = drawn(seed)
    found, table = project_agreement(items), table_of(items)
    reference = krippendorff.alpha(reliability_data=table.T, level_of_measurement="interval")
    assert found.alpha.value == pytest.approx(reference, abs=1e-9)
    assert len(found.cohen) == 6
    for pair in found.cohen:
        both = ~np.isnan(table[:, pair.first] + table[:, pair.second])
        assert pair.kappa.value == pytest.approx(cohen_kappa_score(table[both, pair.first], table[both, pair.second]))
        assert pair.kappa.count == both.sum() / 3  # items, not pairs
    counts = [pair.kappa.count for pair in found.cohen]
    assert counts == sorted(counts, reverse=True)


def test_two_people_by_hand() -> None:
    alike, unlike, tie = ({0: 1.0, 1: 0.0}, {0: 0.0, 1: 1.0}, {0: 1.0, 1: 1.0})
    told = [{1: alike, 2: alike}, {1: alike, 2: unlike}, {1: tie, 2: tie}, {1: alike}]
    found = project_agreement([(item, 2, opinions) for item, opinions in enumerate(told)])
    # Labels 1 1, 1 -1, 0 0: sum 2, squares 4, apart (2 * 2 - 0) / 1 = 4; alpha = 1 - 5 * 4 / (6 * 4 - 2 * 2).
    assert found.alpha.value == pytest.approx(1 - 5 * 4 / 20) and found.alpha.count == 3
    # Two of three pairs alike; shares 3/6, 1/6, 2/6: P_e = 14/36.
    assert found.fleiss.value == pytest.approx((2 / 3 - 14 / 36) / (1 - 14 / 36))
    # Marginals of 1: (2/3, 0, 1/3), of 2: (1/3, 1/3, 1/3): p_e = 1/3.
    assert found.cohen[0].kappa.value == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))


def test_the_interval_is_that_of_items_not_of_pairs() -> None:
    # Two people order four completions alike or the other way round: six pairs an item, but one draw.
    up, down = {i: float(i) for i in range(4)}, {i: -float(i) for i in range(4)}
    told = [{0: up, 1: up if i % 5 else down} if i % 2 else {0: down, 1: down if i % 5 else up} for i in range(40)]
    by_item = project_agreement([(i, 4, one) for i, one in enumerate(told)], Resampling(resamples=1000))
    pairs = [
        (6 * i + k, 2, {person: {0: worth[one], 1: worth[other]} for person, worth in opinions.items()})
        for i, opinions in enumerate(told)
        for k, (one, other) in enumerate(itertools.combinations(range(4), 2))
    ]
    by_pair = project_agreement(pairs, Resampling(resamples=1000))
    for wide, narrow in ((by_item.alpha, by_pair.alpha), (by_item.fleiss, by_pair.fleiss)):
        assert wide.value == pytest.approx(narrow.value)
        assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)  # the square root of six, more or less
    (wide, narrow) = by_item.reliability[1], by_pair.reliability[1]
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def crowd(seed: int, right: list[float], items: int = 300) -> tuple[list[ItemOpinions], np.ndarray]:
    """Three of the annotators compare two completions of each item; each is right as often as `right` says."""
    rng = numpy_rng(seed, "crowd")
    first_better = rng.random(items) < 0.5
    told = []
    for item in range(items):
        opinions = {}
        for person in rng.choice(len(right), 3, replace=False).tolist():
            says_first = first_better[item] == (rng.random() < right[person])
            opinions[person] = {0: float(says_first), 1: float(not says_first)}
        told.append((item, 2, opinions))
    return told, first_better


def test_the_intervals_of_reliability_hold_the_truth_and_scores_the_order() -> None:
    right = [0.95, 0.85, 0.85, 0.75, 0.5, 0.2]
    held = []
    for seed in range(20):
        items, first_better = crowd(seed, right)
        found = project_agreement(items).reliability
        held += [found[person].low <= truth <= found[person].high for person, truth in enumerate(right)]
        scores = completion_scores(items)
        named = np.array([scores[item][0] > scores[item][1] for item in range(len(items))])
        plain = np.array([sum(2 * worth[0] - 1 for worth in opinions.values()) > 0 for _, _, opinions in items])
        assert np.mean(named == first_better) > np.mean(plain == first_better) + 0.02, seed
    assert np.mean(held) > 0.9


def test_a_completion_that_nobody_compared_has_no_score() -> None:
    kept = MemorySource()
    item = kept.add("a", "b", "c")
    for person in (1, 2):
        kept.say(item, person, "good_bad", {"good": [True, False, None], "reasons": ["", "", ""]})
    first, second, third = completion_scores([item_opinions(kept.one(item))])[item]
    assert third is None and first > 0 > second
    assert completion_scores([]) == {}


def test_repeats_skips_and_flags_are_no_opinions_and_the_first_one_holds() -> None:
    kept = MemorySource()
    item = kept.add("a", "b")
    kept.say(item, 1, "pairwise", {"strength": -1})
    kept.say(item, 1, "pairwise", {"strength": 3}, repeat=True)
    kept.say(item, 2, "skip", {"reason": "unclear", "note": ""})
    assert item_opinions(kept.one(item)) == (item, 2, {1: {0: 1.0, 1: 0.0}})


def test_equal_completions_are_one() -> None:
    kept = MemorySource()
    item = kept.add("same", "other", " same ")
    kept.say(item, 1, "ranking", {"ranks": [1, 2, 1]})
    assert item_opinions(kept.one(item)) == (item, 3, {1: {0: -1.0, 1: -2.0}})


def test_nothing_to_compare_says_why_and_comes_back_from_json() -> None:
    empty = project_agreement([])
    assert empty.alpha.reason == empty.fleiss.reason == "no item has labels of two annotators" and empty.cohen == ()
    same = project_agreement([(1, 2, {1: {0: 1.0, 1: 1.0}, 2: {0: 0.0, 1: 0.0}})])
    assert same.alpha.value is None and "nothing to disagree" in same.alpha.reason
    assert same.reliability[1].value is None and "fewer than 3 items" in same.reliability[1].reason
    for found in (empty, same, project_agreement(drawn(1), Resampling(resamples=100))):
        assert ProjectAgreement.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found
