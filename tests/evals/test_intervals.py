import math

import numpy as np
import pytest

from assent.errors import DataError
from assent.evals.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_rate,
    bootstrap_ratio,
    expanded_tail,
    paired_difference,
    wilson,
)


@pytest.mark.parametrize(("count", "allowed_miss"), [(8, 0.04), (40, 0.025)])
def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says(count, allowed_miss):
    rng = np.random.default_rng(5)
    trials = 1500
    hits = 0
    for trial in range(trials):
        interval = bootstrap_mean(rng.normal(0.6, 0.2, count), seed=trial, resamples=400)
        hits += interval.low <= 0.6 <= interval.high
    assert abs(hits / trials - 0.95) < allowed_miss


def test_the_cluster_bootstrap_covers_where_the_plain_one_does_not():
    rng = np.random.default_rng(6)
    trials, clusters, each = 400, 30, 8
    covered = {"plain": 0, "clustered": 0}
    groups = np.repeat(np.arange(clusters), each).tolist()
    for trial in range(trials):
        values = np.repeat(rng.normal(0, 1, clusters), each) + rng.normal(0, 0.3, clusters * each)
        for name, labels in (("plain", None), ("clustered", groups)):
            interval = bootstrap_mean(values, seed=trial, groups=labels, resamples=400)
            covered[name] += interval.low <= 0 <= interval.high
    assert covered["clustered"] / trials > 0.91
    assert covered["plain"] / trials < 0.7


def test_many_values_give_the_textbook_interval():
    values = np.random.default_rng(1).normal(3, 2, 4000)
    interval = bootstrap_mean(values, seed=0)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)


def test_the_expanded_tail_is_that_of_student_t():
    # t quantile at 0.975 with 9 degrees of freedom, from any table
    assert expanded_tail(10) == pytest.approx(0.5 * math.erfc(math.sqrt(10 / 9) * 2.262157 / math.sqrt(2)), rel=0.01)
    assert expanded_tail(100_000) == pytest.approx(0.025, rel=0.001)


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 1, 200)
    first, second = shared + 0.1 + rng.normal(0, 0.1, 200), shared + rng.normal(0, 0.1, 200)
    paired = paired_difference(first, second, seed=0)
    alone = bootstrap_mean(first, seed=0)
    assert paired.low > 0
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_a_ratio_resamples_both_sides_together():
    below = np.random.default_rng(3).uniform(1, 9, 50)
    interval = bootstrap_ratio(0.7 * below, below, seed=0)
    assert (interval.low, interval.high) == (pytest.approx(0.7), pytest.approx(0.7))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(4).normal(0, 1, 20)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_one_group_has_no_spread_to_know():
    assert bootstrap_mean([0.2, 0.4], seed=0, groups=["a", "a"]) == Interval(
        mean=0.30000000000000004, low=0.30000000000000004, high=0.30000000000000004, n=1
    )


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_a_rate_on_which_all_agree_has_wilsons_interval(rate):
    found = bootstrap_rate([rate] * 10, seed=0)
    assert (found, found.n) == (wilson(10 * rate, 10), 10) and found.low < found.high
    twice = bootstrap_rate([rate] * 10, seed=0, groups=list("aabbbccccd"))
    assert twice == wilson(4 * rate, 4), "groups count, and not their members"
    assert bootstrap_rate([rate, rate], seed=0, groups="aa") == Interval(mean=rate, low=rate, high=rate, n=1)


def test_a_rate_with_spread_is_bootstrapped():
    assert bootstrap_rate([1, 0, 1, 1], seed=3) == bootstrap_mean([1, 0, 1, 1], seed=3)


def test_equal_groups_of_different_sizes_have_no_width_by_rounding():
    found = bootstrap_mean([0.7] * 9, seed=0, groups=list("aabbbcccc"))
    assert found.low == found.high == found.mean == pytest.approx(0.7)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_values_that_cannot_be_averaged_are_refused(values):
    with pytest.raises(DataError):
        bootstrap_mean(values, seed=0)


def test_groups_must_match_the_values():
    with pytest.raises(DataError, match="2 values came with 1 group labels"):
        bootstrap_mean([1.0, 2.0], seed=0, groups=["a"])


def test_wilson_meets_the_values_of_its_equation_and_stays_inside():
    z, n, p = 1.959963984540054, 20, 0.9
    interval = wilson(18, 20)
    for end in (interval.low, interval.high):  # the ends solve |p - end| = z sqrt(end (1 - end) / n)
        assert abs(p - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n))
    assert wilson(0, 5).low == 0
    assert wilson(5, 5).high == 1
    with pytest.raises(DataError):
        wilson(3, 2)
