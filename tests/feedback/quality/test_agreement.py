"""Agreement: the published implementations on random tables, closed forms, undefined cases, coverage of intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import krippendorff
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from assent.errors import ConfigError, DataError
from assent.feedback.quality.agreement import (
    alpha_statistic,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    pairwise_agreement,
    value_counts,
)
from assent.feedback.quality.correlation import rank_correlation, ranking_agreement
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


def assert_same(ours: Estimate, published: float, where: object) -> None:
    if ours.value is None:
        assert ours.reason and not math.isfinite(published), where
    else:
        assert ours.value == pytest.approx(published, abs=1e-9), where


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_equals_the_published_implementation_on_a_thousand_tables(level: str) -> None:
    undefined = 0
    for seed in range(TABLES):
        table = random_table(seed)
        try:
            published = krippendorff.alpha(reliability_data=table.T, level_of_measurement=level)
        except ValueError:  # it raises where we say why it is undefined
            published = NAN
        assert_same(krippendorff_alpha(table, level=level), published, (seed, level))
        undefined += not math.isfinite(published)
    assert 10 < undefined < 100


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "theirs"), [("plain", None), ("linear", "linear"), ("quadratic", "quadratic")])
def test_cohen_kappa_equals_scikit_learn_on_a_thousand_tables(weights: str, theirs: str | None) -> None:
    for seed in range(TABLES):
        first, second = random_table(seed)[:, :2].T
        both = ~np.isnan(first + second)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            published = cohen_kappa_score(first[both], second[both], weights=theirs) if both.any() else NAN
        assert_same(cohen_kappa(first, second, weights=weights), published, seed)


@pytest.mark.parametrize(("kind", "theirs"), [("kendall", stats.kendalltau), ("spearman", stats.spearmanr)])
def test_rank_correlation_equals_scipy_on_a_thousand_tables(
    kind: str, theirs: Callable[..., tuple[float, float]]
) -> None:
    for seed in range(TABLES):
        first, second = random_table(seed)[:, :2].T
        if seed % 2:  # without ties as well
            first = first + np.random.default_rng(seed).random(len(first))
        both = ~np.isnan(first + second)
        published = theirs(first[both], second[both])[0] if both.sum() > 1 else NAN
        assert_same(rank_correlation(first, second, kind=kind), published, seed)


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
        assert_same(fleiss_kappa(table), fleiss_by_hand(table), seed)


def test_fleiss_kappa_and_nominal_alpha_keep_their_closed_relation_on_complete_tables() -> None:
    # D_o is the same and D_e differs by the factor n / (n - 1): 1 - alpha = (1 - kappa) (n - 1) / n, n judgements.
    for seed in range(50):
        table = np.random.default_rng(seed).integers(0, 3, (12, 4)).astype(float)
        kappa, alpha = fleiss_kappa(table).value, krippendorff_alpha(table).value
        assert kappa is not None and alpha is not None
        assert 1 - alpha == pytest.approx((1 - kappa) * (table.size - 1) / table.size, abs=1e-12)


def test_the_worked_example_of_the_source_comes_out() -> None:
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section D: four observers, twelve units.
    table = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]).T  # fmt: skip
    assert krippendorff_alpha(table, level="nominal").value == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(table, level="ordinal").value == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(table, level="interval").value == pytest.approx(0.849, abs=5e-4)


def test_what_is_undefined_says_why() -> None:
    same = np.ones((5, 3))
    alone = np.array([[1, NAN], [NAN, 2], [NAN, NAN]])
    for measure in (krippendorff_alpha, fleiss_kappa):
        assert measure(same).value is None and "one value" in measure(same).reason
        assert measure(alone).value is None and "two people" in measure(alone).reason
    assert cohen_kappa([1, 1], [1, 1]).reason and cohen_kappa([], []).value is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]).reason and rank_correlation([1, NAN], [1, 2]).value is None
    assert pairwise_agreement(alone).value is None
    assert ranking_agreement(np.ones((4, 2, 3))).value is None


def test_two_items_have_a_figure_but_no_interval() -> None:
    result = krippendorff_alpha([[1, 1], [2, 1]], resampling=Resampling())
    assert result.value is not None and result.low is None and "fewer than 3" in result.reason


def test_an_interval_that_resampling_cannot_give_is_withheld() -> None:
    table = np.ones((12, 2))
    table[0, 1] = 2.0  # a third of the resamples never draw the one item that differs
    result = cohen_kappa(table[:, 0], table[:, 1], resampling=Resampling())
    assert result.value == 0.0 and result.low is None and "too few items differ" in result.reason


def test_declared_values_keep_their_distance_even_if_nobody_uses_one() -> None:
    first, second = [1, 1, 3, 3, 1], [1, 3, 3, 3, 1]
    adjacent = cohen_kappa(first, second, weights="linear").value
    assert cohen_kappa(first, second, weights="linear", values=[1, 2, 3]).value == pytest.approx(adjacent)
    third = [1, 2, 2, 1, 3]
    assert cohen_kappa(first, third, weights="quadratic", values=[1, 2, 3, 4]).value == pytest.approx(
        cohen_kappa_score(first, third, weights="quadratic", labels=[1, 2, 3, 4])
    )
    with pytest.raises(DataError, match="not among the values"):
        cohen_kappa(first, third, values=[1, 3])


def test_tables_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="items x raters"):
        krippendorff_alpha([1, 2, 3])
    with pytest.raises(DataError, match="infinite"):
        fleiss_kappa([[1, math.inf]])
    with pytest.raises(DataError, match="same items"):
        cohen_kappa([1, 2], [1])
    with pytest.raises(ConfigError, match="resamples"):
        Resampling(resamples=3)


def test_ranking_agreement_is_the_mean_tau_of_all_pairs_of_raters() -> None:
    rng = np.random.default_rng(5)
    ranks = rng.integers(1, 4, (30, 3, 5)).astype(float)
    ranks[rng.random((30, 3)) < 0.2] = NAN  # somebody did not see the item
    ranks[3, 0, 2] = NAN  # one candidate left out
    means = []
    for item in ranks:
        pairs = [rank_correlation(item[a], item[b]).value for a in range(3) for b in range(a)]
        defined = [value for value in pairs if value is not None]
        means += [sum(defined) / len(defined)] if defined else []
    result = ranking_agreement(ranks, resampling=Resampling(resamples=200))
    assert result.value == pytest.approx(sum(means) / len(means)) and result.count == len(means)
    assert result.low is not None and result.low < result.value < result.high


def test_resampling_an_item_twice_is_the_table_with_the_item_twice() -> None:
    table = random_table(3)
    doubled = np.concatenate([table, table[:4]])
    weights = np.concatenate([np.full(4, 2.0), np.ones(len(table) - 4)])[None]
    counts, values = value_counts(table)
    kept = counts.sum(axis=1) >= 2
    for level in ("nominal", "ordinal", "interval"):
        statistic = alpha_statistic(counts[kept], counts[kept].sum(axis=1), values, level)
        expected = krippendorff_alpha(doubled, level=level).value
        assert statistic(weights[:, kept])[0] == pytest.approx(expected, abs=1e-12)


def test_weights_draw_as_many_items_as_there_are_and_evenly() -> None:
    weights = draw_weights(np.random.default_rng(0), 4000, 25)
    assert (weights.sum(axis=1) == 25).all()
    assert weights.mean() == 1 and abs(weights.var() - 24 / 25) < 0.02  # binomial(25, 1/25)


def test_the_same_seed_gives_the_same_interval_and_more_items_a_narrower_one() -> None:
    table = people(0, items=400)
    few, many = (krippendorff_alpha(part, resampling=Resampling(seed=1)) for part in (table[:100], table))
    assert few == krippendorff_alpha(table[:100], resampling=Resampling(seed=1))
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
    "alpha, nominal": lambda table, how: krippendorff_alpha(table, level="nominal", resampling=how),
    "alpha, ordinal": lambda table, how: krippendorff_alpha(table, level="ordinal", resampling=how),
    "alpha, interval": lambda table, how: krippendorff_alpha(table, level="interval", resampling=how),
    "cohen": lambda table, how: cohen_kappa(table[:, 0], table[:, 1], resampling=how),
    "cohen, linear": lambda table, how: cohen_kappa(table[:, 0], table[:, 1], weights="linear", resampling=how),
    "cohen, quadratic": lambda table, how: cohen_kappa(table[:, 0], table[:, 1], weights="quadratic", resampling=how),
    "fleiss": lambda table, how: fleiss_kappa(table, resampling=how),
    "kendall": lambda table, how: rank_correlation(table[:, 0], table[:, 1], resampling=how),
    "spearman": lambda table, how: rank_correlation(table[:, 0], table[:, 1], kind="spearman", resampling=how),
    "agreement": lambda table, how: pairwise_agreement(table, resampling=how),
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
