"""Length-controlled win rates: known parameters are found again, and without an effect of length nothing changes."""

from __future__ import annotations

import numpy as np
import pytest

from assent.evals.length_control import length_controlled_rate
from assent.evals.win_rate import win_rate


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_fit_finds_the_rate_at_equal_length_again() -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(80, 60, 4000)  # the answers are mostly the longer ones, and the judge likes that
    preferred = rng.random(4000) < sigmoid(-0.5 + 2.0 * np.tanh(longer / longer.std()))
    rate = length_controlled_rate(preferred, 200 + longer, np.full(4000, 200.0), seed=0, groups=range(4000))
    assert preferred.mean() > 0.6
    assert rate.mean == pytest.approx(sigmoid(np.array(-0.5)), abs=0.03)
    assert rate.low < sigmoid(np.array(-0.5)) < rate.high < 0.5


def test_the_fit_is_the_least_loss_of_a_slow_search() -> None:
    rng = np.random.default_rng(1)
    longer, preferred = rng.normal(0, 1, 60), rng.random(60)  # soft preferences
    feature = np.tanh(longer / longer.std())
    theta, phi = np.meshgrid(np.linspace(-1, 1, 801), np.linspace(-1, 1, 801), indexing="ij")
    score = theta[..., None] + phi[..., None] * feature
    loss = (np.logaddexp(0, score) - preferred * score).sum(-1) + 0.05 * (theta**2 + phi**2)
    best = np.unravel_index(loss.argmin(), loss.shape)
    found = length_controlled_rate(preferred, longer, np.zeros(60), seed=0, groups=range(60)).mean
    assert found == pytest.approx(sigmoid(theta[best]), abs=1e-3)


def test_answers_of_equal_length_give_the_plain_rate_and_a_sweep_stays_below_one() -> None:
    preferred = [1.0] * 30 + [0.0] * 10
    rate = length_controlled_rate(preferred, [5] * 40, [5] * 40, seed=0, groups=range(40))
    assert rate.mean == pytest.approx(0.75, abs=0.01)
    swept = length_controlled_rate([1.0] * 40, range(40), [0] * 40, seed=0, groups=range(40))
    assert 0.9 < swept.mean < 1


def test_swapping_the_models_gives_one_minus_the_rate() -> None:
    rng = np.random.default_rng(2)
    preferred, mine, theirs = rng.random(50), rng.integers(5, 90, 50).tolist(), rng.integers(5, 90, 50).tolist()
    forward = win_rate(preferred, names=("a", "b"), judge="j", seed=0, lengths=(mine, theirs)).length_controlled
    backward = win_rate(1 - preferred, names=("b", "a"), judge="j", seed=0, lengths=(theirs, mine)).length_controlled
    assert forward is not None and backward is not None
    assert forward.mean == pytest.approx(1 - backward.mean, abs=1e-9)
