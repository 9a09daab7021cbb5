from dataclasses import dataclass

import numpy as np
import pytest

from assent.errors import DataError
from assent.evals.gold import AXES, arm_scores, gap_closed, gold_by_kind, gold_means, pooled
from assent.evals.intervals import wilson
from assent.evals.win_rate import win_rate


@dataclass(frozen=True)
class Gold:
    overall: float
    helpful: float
    honest: float
    harmless: float


def arm(mean: float, *, prompts: int = 60, seed: int = 0, each: int = 1):
    rng = np.random.default_rng(seed)
    names = [f"prompt {i}" for i in range(prompts) for _ in range(each)]
    kinds = ["recall" if i % 2 else "harm" for i in range(prompts) for _ in range(each)]
    scores = [Gold(*np.clip(rng.normal(mean, 0.1, 4), 0, 1).tolist()) for _ in names]
    return arm_scores(names, kinds, scores)


def test_means_are_those_of_the_scores_with_intervals_around_them():
    scores = arm(0.6)
    means = gold_means(scores, seed=0)
    for axis in AXES:
        interval = means.axis(axis)
        assert interval.mean == pytest.approx(np.mean(scores.axis(axis)))
        assert interval.low < interval.mean < interval.high


def test_kinds_are_measured_apart_and_average_to_the_whole():
    scores = arm(0.6)
    kinds = gold_by_kind(scores, seed=0)
    assert list(kinds) == ["harm", "recall"]
    assert np.mean([kind.overall.mean for kind in kinds.values()]) == pytest.approx(np.mean(scores.overall))


def test_the_gap_closed_is_the_ratio_of_the_means():
    low, middle, high = arm(0.4, seed=1), arm(0.7, seed=2), arm(0.9, seed=3)
    means = [float(np.mean(scores.overall)) for scores in (low, middle, high)]
    gap = gap_closed(low, middle, high, seed=0)
    assert gap.mean == pytest.approx((means[1] - means[0]) / (means[2] - means[0]))
    assert gap.low < gap.mean < gap.high


def test_no_training_closes_nothing_and_ideal_answers_close_everything():
    low, high = arm(0.4, seed=1), arm(0.9, seed=3)
    assert gap_closed(low, low, high, seed=0).mean == 0
    assert gap_closed(low, high, high, seed=0).low == pytest.approx(1)


def test_seeds_pooled_keep_the_prompt_as_the_unit():
    one = arm(0.6)
    twice = pooled([one, one])
    assert gold_means(twice, seed=0).overall.low == pytest.approx(gold_means(one, seed=0).overall.low)


def test_several_completions_a_prompt_may_differ_in_number_between_arms():
    gap = gap_closed(arm(0.4, each=4), arm(0.9, each=2), arm(0.9), seed=0)
    assert gap.mean == pytest.approx(1, abs=0.1)


def test_arms_on_different_prompts_are_not_compared():
    with pytest.raises(DataError, match="different prompts"):
        gap_closed(arm(0.4), arm(0.6, prompts=50), arm(0.9), seed=0)


def test_a_win_rate_of_ties_or_wins_alone_has_an_interval():
    for preferences, rate in (([0.5] * 8, 4), ([0.7] * 8, 8)):
        found = win_rate(preferences, names=("ppo", "sft"), judge="gold", seed=0)
        assert found.rate == wilson(rate, 8)


def test_win_rates_count_ties_as_half_and_are_mirrored():
    first, second = [0.9, 0.5, 0.2, 0.6], [0.1, 0.5, 0.8, 0.4]
    forward = win_rate(first, names=("ppo", "sft"), judge="gold", seed=0)
    backward = win_rate(second, names=("sft", "ppo"), judge="gold", seed=0)
    assert (forward.rate.mean, forward.wins, forward.ties, forward.losses) == (0.625, 2, 1, 1)
    assert backward.rate.mean == 1 - forward.rate.mean
