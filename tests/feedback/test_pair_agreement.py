"""Agreement about pairs against a reference implementation, by hand, and with intervals over items."""

from __future__ import annotations

import itertools

import krippendorff
import numpy as np
import pytest

from assent.feedback.agreement import pairwise_agreement
from assent.feedback.pair_agreement import Opinions, pair_agreement
from assent.feedback.resampling import Resampling
from assent.seeds import numpy_rng


def drawn(seed: int, items: int = 40, people: int = 4, completions: int = 3) -> list[dict[int, dict[int, float]]]:
    """Noisy opinions around a common order; some people are missing."""
    rng = numpy_rng(seed, "opinions")
    found = []
    for _ in range(items):
        quality = rng.normal(size=completions)
        there = [person for person in range(people) if rng.random() < 0.7]
        told = {person: np.round(quality + rng.normal(size=completions)) for person in there}
        found.append({person: dict(enumerate(worth.tolist())) for person, worth in told.items()})
    return found


def table_of(items: list[Opinions]) -> np.ndarray:
    """Pairs x people, nan where somebody said nothing."""
    rows = []
    for opinions in items:
        for first, second in itertools.combinations(range(3), 2):
            row = [np.nan] * 4
            for person, worth in opinions.items():
                row[person] = np.sign(worth[first] - worth[second])
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(4))
def test_share_and_alpha_are_those_of_the_table_of_pairs(seed: int) -> None:
    items = drawn(seed)
    found, table = pair_agreement(items), table_of(items)
    assert found.share.value == pytest.approx(pairwise_agreement(table).value, abs=1e-12)
    reference = krippendorff.alpha(reliability_data=table.T, level_of_measurement="interval")
    assert found.alpha.value == pytest.approx(reference, abs=1e-9)


def test_two_people_by_hand() -> None:
    alike, unlike, tie = ({0: 1.0, 1: 0.0}, {0: 0.0, 1: 1.0}, {0: 1.0, 1: 1.0})
    found = pair_agreement([{1: alike, 2: alike}, {1: alike, 2: unlike}, {1: tie, 2: tie}, {1: alike}])
    assert found.share.value == pytest.approx(2 / 3)
    assert found.share.count == 3
    # Opinions 1 1, 1 -1, 0 0: sum 2, squares 4, apart (2 * 2 - 0) / 1 = 4; alpha = 1 - 5 * 4 / (6 * 4 - 2 * 2).
    assert found.alpha.value == pytest.approx(1 - 5 * 4 / 20)


def test_the_interval_is_that_of_items_not_of_pairs() -> None:
    # Two people order four completions alike (24 items) or the other way round (16): 240 pairs, but 40 draws.
    up, down = {i: float(i) for i in range(4)}, {i: -float(i) for i in range(4)}
    share = pair_agreement([{1: up, 2: up if i < 24 else down} for i in range(40)], Resampling(resamples=1000)).share
    assert share.value == pytest.approx(0.6)
    assert share.low is not None and share.high is not None
    half = 1.96 * (0.6 * 0.4 / 40) ** 0.5
    assert 0.8 < (share.high - share.low) / (2 * half) < 1.2


def test_nothing_to_compare_says_why() -> None:
    assert pair_agreement([]).share.reason == "no item was judged by two people"
    same = pair_agreement([{1: {0: 1.0, 1: 1.0}, 2: {0: 0.0, 1: 0.0}}])
    assert same.share.value == 1.0
    assert same.alpha.value is None
    assert "nothing to disagree" in same.alpha.reason
