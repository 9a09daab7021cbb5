"""Agreement: the published implementations on random tables, closed forms, undefined cases, coverage of intervals."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from assent.errors import ConfigError, DataError
from assent.feedback.quality.agreement import ValueCounts, cohen_kappa, fleiss_kappa, krippendorff_alpha
from assent.feedback.quality.resampling import Estimate, Resampling, draw_weights

NAN = math.nan
TABLES = 1000
pytestmark = pytest.mark.filterwarnings("ignore")  # the references warn where a figure is undefined


def random_table(seed: int) -> np.ndarray:
    """A table of random size, agreement and share of missing values; some are undefined."""
    rng = np.random.default_rng(seed)
    items, raters, values = rng.integers(2, 20), rng.integers(2, 6), rng.integers(2, 6)
    table = rng.integers(1, values + 1, (items, raters)).astype(float)
    kept = rng.random((items, raters)) < rng.random()
    table = np.where(kept, rng.integers(1, values + 1, items)[:, None], table)
    table[rng.random((items, raters)) < rng.choice([0, 0.2, 0.5])] = NAN
    return table


def counts(table: np.ndarray | list) -> ValueCounts:
    """A table of units x annotators (nan: no label), each unit resampled by itself."""
    table = np.asarray(table, float)
    unit, annotator = np.nonzero(~np.isnan(table))
    return ValueCounts.of_labels(unit, table[unit, annotator], group_N=np.arange(len(table)))


def assert_same(ours: Estimate, published: float, where: object) -> None:
    if ours.value is None:
        assert ours.reason and not math.isfinite(published), where
    else:
        assert ours.value == pytest.approx(published, abs=1e-9), where


@pytest.mark.parametrize("level", ["nominal", "interval"])
def test_alpha_equals_the_published_implementation_on_a_thousand_tables(level: str) -> None:
    undefined = 0
    for seed in range(TABLES):
        table = random_table(seed)
        try:
            published = krippendorff.alpha(reliability_data=table.T, level_of_measurement=level)
        except ValueError:  # it raises where we say why it is undefined
            published = NAN
        assert_same(krippendorff_alpha(counts(table), level=level), published, (seed, level))
        undefined += not math.isfinite(published)
    assert 10 < undefined < 100


@pytest.mark.slow
def test_cohen_kappa_equals_scikit_learn_on_a_thousand_tables() -> None:
    for seed in range(TABLES):
        first, second = random_table(seed)[:, :2].T
        both = ~np.isnan(first + second)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            published = cohen_kappa_score(first[both], second[both]) if both.any() else NAN
        assert_same(cohen_kappa(first, second), published, seed)


def fleiss_by_hand(table: np.ndarray) -> float:
    """Fleiss (1971) with plain loops: the share of agreeing ordered pairs, and the squared shares of the values."""
    agreeing, given = [], []
    for row in table:
        values = [value for value in row if not math.isnan(value)]
        if len(values) < 2:
            continue
        pairs = [(a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j]
        agreeing.append(sum(a == b for a, b in pairs) / len(pairs))
        given += values
    if not given:
        return NAN
    chance = sum((given.count(value) / len(given)) ** 2 for value in set(given))
    return (sum(agreeing) / len(agreeing) - chance) / (1 - chance) if chance < 1 else NAN


def test_fleiss_kappa_equals_plain_loops_on_a_thousand_tables() -> None:
    for seed in range(TABLES):
        table = random_table(seed)
        assert_same(fleiss_kappa(counts(table)), fleiss_by_hand(table), seed)


def test_fleiss_kappa_and_nominal_alpha_keep_their_closed_relation_on_complete_tables() -> None:
    # D_o is the same and D_e differs by the factor n / (n - 1): 1 - alpha = (1 - kappa) (n - 1) / n, n judgements.
    for seed in range(50):
        table = np.random.default_rng(seed).integers(0, 3, (12, 4)).astype(float)
        kappa, alpha = fleiss_kappa(counts(table)).value, krippendorff_alpha(counts(table)).value
        assert kappa is not None and alpha is not None
        assert 1 - alpha == pytest.approx((1 - kappa) * (table.size - 1) / table.size, abs=1e-12)


def test_the_worked_example_of_the_source_comes_out() -> None:
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section D: four observers, twelve units.
    table = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]).T  # fmt: skip
    assert krippendorff_alpha(counts(table), level="nominal").value == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(counts(table), level="interval").value == pytest.approx(0.849, abs=5e-4)


def test_what_is_undefined_says_why() -> None:
    same = np.ones((5, 3))
    alone = np.array([[1, NAN], [NAN, 2], [NAN, NAN]])
    for measure in (krippendorff_alpha, fleiss_kappa):
        assert measure(counts(same)).value is None and "one value" in measure(counts(same)).reason
        assert measure(counts(alone)).value is None and "two annotators" in measure(counts(alone)).reason
    assert cohen_kappa([1, 1], [1, 1]).reason and cohen_kappa([], []).value is None


def test_two_items_have_a_figure_but_no_interval() -> None:
    result = krippendorff_alpha(counts([[1, 1], [2, 1]]), resampling=Resampling())
    assert result.value is not None and result.low is None and "fewer than 3" in result.reason


def test_an_interval_that_resampling_cannot_give_is_withheld() -> None:
    table = np.ones((12, 2))
    table[0, 1] = 2.0  # a third of the resamples never draw the one item that differs
    result = cohen_kappa(table[:, 0], table[:, 1], resampling=Resampling())
    assert result.value == 0.0 and result.low is None and "too few items differ" in result.reason


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="same units"):
        cohen_kappa([1, 2], [1])
    with pytest.raises(ConfigError, match="resamples"):
        Resampling(resamples=3)


def test_units_of_one_group_are_drawn_together() -> None:
    table = people(3, items=60)
    tripled = np.repeat(table, 3, axis=0)  # three units an item that say the same
    groups = np.repeat(np.arange(60), 3)
    how = Resampling(resamples=400)
    alone, grouped = counts(table), dataclasses.replace(counts(tripled), group_N=groups)
    one, other = fleiss_kappa(alone, resampling=how), fleiss_kappa(grouped, resampling=how)
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))
    assert other.count == one.count
    first, second = table[:, 0], table[:, 1]
    one = cohen_kappa(first, second, resampling=how)
    other = cohen_kappa(np.repeat(first, 3), np.repeat(second, 3), group_N=groups, resampling=how)
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))


def test_weights_draw_as_many_items_as_there_are_and_evenly() -> None:
    weights = draw_weights(np.random.default_rng(0), 4000, 25)
    assert (weights.sum(axis=1) == 25).all()
    assert weights.mean() == 1 and abs(weights.var() - 24 / 25) < 0.02  # binomial(25, 1/25)


def test_the_same_seed_gives_the_same_interval_and_more_items_a_narrower_one() -> None:
    table = people(0, items=400)
    few, many = (krippendorff_alpha(counts(part), resampling=Resampling(seed=1)) for part in (table[:100], table))
    assert few == krippendorff_alpha(counts(table[:100]), resampling=Resampling(seed=1))
    assert many.high - many.low < 0.7 * (few.high - few.low)


def people(seed: int, *, items: int, good: float = 0.6) -> np.ndarray:
    """Three people who see the truth with probability `good` and else are up to two off; a fifth is missing."""
    rng = np.random.default_rng([7, seed])
    truth = rng.choice(5, items, p=[0.1, 0.2, 0.3, 0.25, 0.15])
    off = np.clip(truth[:, None] + rng.integers(-2, 3, (items, 3)), 0, 4)
    table = np.where(rng.random((items, 3)) < good, truth[:, None], off).astype(float)
    table[rng.random((items, 3)) < 0.2] = NAN
    return table


MEASURES: dict[str, Callable[[np.ndarray, Resampling | None], Estimate]] = {
    "alpha, nominal": lambda table, how: krippendorff_alpha(counts(table), level="nominal", resampling=how),
    "alpha, interval": lambda table, how: krippendorff_alpha(counts(table), level="interval", resampling=how),
    "cohen": lambda table, how: cohen_kappa(table[:, 0], table[:, 1], resampling=how),
    "fleiss": lambda table, how: fleiss_kappa(counts(table), resampling=how),
}


def coverage(name: str, *, repetitions: int, items: int = 120, level: float = 0.95, good: float = 0.6) -> float:
    """How often the interval of `name` covers the figure of a population of a million items."""
    truth = MEASURES[name](people(-1 % 2**31, items=1_000_000, good=good), None).value
    hits = 0
    for seed in range(repetitions):
        how = Resampling(seed=seed, resamples=600, level=level)
        found = MEASURES[name](people(seed, items=items, good=good), how)
        hits += found.low is not None and found.low <= truth <= found.high
    return hits / repetitions


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURES)
def test_intervals_cover_the_truth_at_their_stated_rate_within_two_points(name: str) -> None:
    assert abs(coverage(name, repetitions=1200) - 0.95) <= 0.02


def test_intervals_of_another_level_keep_that_level() -> None:
    assert abs(coverage("alpha, nominal", repetitions=600, level=0.8) - 0.8) <= 0.04
