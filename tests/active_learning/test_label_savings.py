"""The saving as the random arm tells it: nothing where nothing was saved, something where answers were worth more."""

from __future__ import annotations

import numpy as np
import pytest

from assent.active_learning.label_savings import FEWEST, saving_curve


def judged(seed: int, *, arm: int, chosen: int, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a linear judge in 8 dimensions; chosen ones differ `size` times as much."""
    rng = np.random.default_rng([seed, arm, chosen])
    truth = np.random.default_rng(seed).normal(size=8)
    difference = rng.normal(size=(arm + chosen, 8)) * np.where(np.arange(arm + chosen) < arm, 0.5, 0.5 * size)[:, None]
    told = (rng.random(arm + chosen) < 1 / (1 + np.exp(-difference @ truth))).astype(float)
    return difference, told, np.arange(arm + chosen) < arm


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_of_one_kind_teach_the_same_whatever_they_are_called(seed: int) -> None:
    last = saving_curve(*judged(seed, arm=400, chosen=300, size=1.0), seed=seed)[-1]
    assert last.labels == 200 and last.difference.low < 0 < last.difference.high
    assert last.difference.value == pytest.approx(last.chosen.value - last.random.value)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_that_are_worth_more_show_a_higher_curve(seed: int) -> None:
    points = saving_curve(*judged(seed, arm=400, chosen=300, size=4.0), seed=seed)
    assert [point.labels for point in points] == sorted({point.labels for point in points})
    assert np.mean([point.difference.value for point in points]) > 0.01
    assert points[-1].chosen.value > points[0].chosen.value


def test_too_few_answers_of_either_kind_say_nothing() -> None:
    assert saving_curve(*judged(0, arm=2 * FEWEST - 1, chosen=300, size=1.0), seed=0) == ()
    assert saving_curve(*judged(0, arm=300, chosen=FEWEST - 1, size=1.0), seed=0) == ()


def test_the_same_seed_measures_the_same() -> None:
    given = judged(1, arm=80, chosen=60, size=2.0)
    assert saving_curve(*given, seed=3) == saving_curve(*given, seed=3) != saving_curve(*given, seed=4)
