"""Alpha over pairs against a reference implementation, by hand, and with intervals over items."""

from __future__ import annotations

import itertools

import krippendorff
import numpy as np
import pytest

from assent.feedback.quality.agreement import krippendorff_alpha
from assent.feedback.quality.pair_agreement import Opinions, pair_alpha
from assent.feedback.quality.resampling import Resampling
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


def table_of(items: list[Opinions], completions: int = 3) -> np.ndarray:
    """Pairs x people, nan where somebody said nothing."""
    rows = []
    for opinions in items:
        for first, second in itertools.combinations(range(completions), 2):
            row = [np.nan] * 4
            for person, worth in opinions.items():
                row[person] = np.sign(worth[first] - worth[second])
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_that_of_the_table_of_pairs(seed: int) -> None:
    items = drawn(seed)
    reference = krippendorff.alpha(reliability_data=table_of(items).T, level_of_measurement="interval")
    assert pair_alpha(items).value == pytest.approx(reference, abs=1e-9)


def test_two_people_by_hand() -> None:
    alike, unlike, tie = ({0: 1.0, 1: 0.0}, {0: 0.0, 1: 1.0}, {0: 1.0, 1: 1.0})
    found = pair_alpha([{1: alike, 2: alike}, {1: alike, 2: unlike}, {1: tie, 2: tie}, {1: alike}])
    # Opinions 1 1, 1 -1, 0 0: sum 2, squares 4, apart (2 * 2 - 0) / 1 = 4; alpha = 1 - 5 * 4 / (6 * 4 - 2 * 2).
    assert found.value == pytest.approx(1 - 5 * 4 / 20)
    assert found.count == 3


def test_the_interval_is_that_of_items_not_of_pairs() -> None:
    # Two people order four completions alike or the other way round: six pairs an item, but one draw.
    up, down = {i: float(i) for i in range(4)}, {i: -float(i) for i in range(4)}
    items = [{1: up, 2: up if i % 5 else down} if i % 2 else {1: down, 2: down if i % 5 else up} for i in range(40)]
    by_item = pair_alpha(items, Resampling(resamples=1000))
    by_pair = krippendorff_alpha(table_of(items, 4), level="interval", resampling=Resampling(resamples=1000))
    assert by_item.value == pytest.approx(by_pair.value)
    assert by_item.low is not None and by_item.high is not None and by_pair.low is not None and by_pair.high is not None
    assert by_item.high - by_item.low > 1.8 * (by_pair.high - by_pair.low)  # the square root of six, more or less


def test_nothing_to_compare_says_why() -> None:
    assert pair_alpha([]).reason == "no item was judged by two people"
    same = pair_alpha([{1: {0: 1.0, 1: 1.0}, 2: {0: 0.0, 1: 0.0}}])
    assert same.value is None
    assert "nothing to disagree" in same.reason
