"""Advantage estimation against its definition, and whitening against whole-sample statistics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.advantages import gae, whiten


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gae_by_definition(
    rewards: list[float], values: list[float], after: float, *, gamma: float, gae_lambda: float
) -> list[float]:
    """A_t = sum over k of (gamma gae_lambda)^k delta_{t+k}, the double sum as it stands in the paper."""
    following = [*values[1:], after]
    deltas = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    return [sum((gamma * gae_lambda) ** k * delta for k, delta in enumerate(deltas[t:])) for t in range(len(deltas))]


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.99, 0.0)])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_advantages_are_the_discounted_sum_of_errors_of_each_sequence(
    gamma: float, gae_lambda: float, bootstrap: bool
) -> None:
    lengths = [3, 1, 7, 2]
    reward_N, value_N = normal(13, seed=1), normal(13, seed=2)
    bootstrap_B = normal(4, seed=3) if bootstrap else None
    advantage_N, return_N = gae(reward_N, value_N, lengths, gamma=gamma, gae_lambda=gae_lambda, bootstrap_B=bootstrap_B)
    expected: list[float] = []
    for row, (rewards, values) in enumerate(zip(reward_N.split(lengths), value_N.split(lengths), strict=True)):
        after = 0.0 if bootstrap_B is None else bootstrap_B[row].item()
        expected += gae_by_definition(rewards.tolist(), values.tolist(), after, gamma=gamma, gae_lambda=gae_lambda)
    assert_close(advantage_N, tensor(expected, dtype=torch.float64))
    assert_close(return_N, advantage_N + value_N)


def test_lambda_one_gives_reward_to_come_and_lambda_zero_one_step_errors() -> None:
    reward_N, value_N = normal(5, seed=4), normal(5, seed=5)
    _, return_N = gae(reward_N, value_N, [5], gamma=1.0, gae_lambda=1.0)
    assert_close(return_N, reward_N.flip(0).cumsum(0).flip(0))
    advantage_N, _ = gae(reward_N, value_N, [5], gamma=1.0, gae_lambda=0.0)
    assert_close(advantage_N[:-1], reward_N[:-1] + value_N[1:] - value_N[:-1])


def test_perfect_values_leave_no_advantage_and_the_result_has_no_gradient() -> None:
    reward_N = normal(6, seed=6)
    value_N = torch.cat([part.flip(0).cumsum(0).flip(0) for part in reward_N.split([4, 2])]).requires_grad_()
    advantage_N, return_N = gae(reward_N, value_N, [4, 2], gamma=1.0, gae_lambda=0.95)
    assert_close(advantage_N, torch.zeros(6, dtype=torch.float64))
    assert not advantage_N.requires_grad and not return_N.requires_grad


def test_neighbours_in_the_flat_row_do_not_touch_each_other() -> None:
    reward_N, value_N = normal(6, seed=7), normal(6, seed=8)
    before, _ = gae(reward_N, value_N, [3, 3], gamma=1.0, gae_lambda=0.95)
    reward_N[3:], value_N[3:] = torch.nan, torch.nan
    after, _ = gae(reward_N, value_N, [3, 3], gamma=1.0, gae_lambda=0.95)
    assert torch.equal(before[:3], after[:3]) and after[3:].isnan().all()


def test_lengths_that_do_not_fit_are_refused_and_none_is_fine() -> None:
    for lengths in ([2], [4, -1], [3, 0]):
        with pytest.raises(ValueError, match="sum to 3"):
            gae(torch.zeros(3), torch.zeros(3), lengths, gamma=1.0, gae_lambda=1.0)
    assert gae(torch.zeros(0), torch.zeros(0), [], gamma=1.0, gae_lambda=1.0)[0].shape == (0,)


def test_whitened_values_have_mean_zero_and_spread_one_over_the_mask() -> None:
    values_N, mask_N = normal(50, seed=9) * 7 + 3, torch.arange(50) % 3 > 0
    values_N[0] = torch.nan
    white_N = whiten(values_N, mask_N)
    assert_close(white_N[mask_N].mean().item(), 0.0, rtol=0, atol=1e-9)
    assert_close(white_N[mask_N].var(correction=0).item(), 1.0, rtol=1e-6, atol=0)
    assert (white_N[~mask_N] == 0).all()
    kept_N = whiten(values_N, mask_N, shift_mean=False)
    assert_close(kept_N[mask_N].mean(), values_N[mask_N].mean())
    assert_close((kept_N - kept_N[mask_N].mean())[mask_N], white_N[mask_N])
    assert (kept_N[~mask_N] == 0).all()


def test_whitening_survives_equal_values_and_an_empty_mask() -> None:
    mask_N = torch.ones(4, dtype=torch.bool)
    assert whiten(torch.full((4,), 3.0), mask_N).tolist() == [0.0] * 4
    assert whiten(torch.full((4,), 3.0), mask_N, shift_mean=False).tolist() == [3.0] * 4
    assert whiten(torch.full((4,), 3.0), ~mask_N).tolist() == [0.0] * 4
