"""Advantages: generalised advantage estimation, comparisons within a group, whitening.

    delta_t = r_t + gamma v_{t+1} - v_t                       GAE, Schulman et al. 2016 (arXiv 1506.02438)
    A_t     = delta_t + gamma gae_lambda A_{t+1}
    R_t     = A_t + v_t                                       the target of the value loss

    A_b     = (r_b - mean) / (std + 1e-4), of its group       GRPO, Shao et al. 2024 (arXiv 2402.03300)
    A_b     = r_b - mean of the others of its group           RLOO, Kool et al. 2019; Ahmadian et al. 2024 (2402.14740)

Shapes: N completion tokens of B sequences in one flat row, sequence after sequence; T the longest of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STD_EPSILON = 1e-4  # TRL's; verl has 1e-6 and OpenRLHF 1e-9


@torch.no_grad()
def gae(
    reward_N: Tensor,
    value_N: Tensor,
    lengths: Sequence[int],
    *,
    gamma: float,
    gae_lambda: float,
    bootstrap_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(advantage_N, return_N). `bootstrap_B` is the value after each last token; without it, zero: the episode ended.

    `lengths` are positive and sum to N.
    """
    if sum(lengths) != value_N.shape[0] or min(lengths, default=1) < 1:
        raise ValueError(f"lengths must be positive and sum to {value_N.shape[0]}, got {list(lengths)}")
    if not lengths:
        return torch.zeros_like(value_N), value_N.clone()
    count_B = torch.tensor(lengths, device=value_N.device)
    last_B = count_B.cumsum(0) - 1
    next_value_N = value_N.roll(-1)
    next_value_N[last_B] = 0.0 if bootstrap_B is None else bootstrap_B.to(value_N.dtype)
    delta_N = reward_N + gamma * next_value_N - value_N

    # sequences end in the last column, so one sweep to the left serves all; what lies left of a start is never read
    longest = max(lengths)
    row_N = torch.repeat_interleave(torch.arange(len(lengths), device=value_N.device), count_B)
    column_N = torch.arange(value_N.shape[0], device=value_N.device) - last_B[row_N] + longest - 1
    sweep_TB = delta_N.new_zeros((longest, len(lengths)))
    sweep_TB[column_N, row_N] = delta_N
    for step in range(longest - 2, -1, -1):
        sweep_TB[step].add_(sweep_TB[step + 1], alpha=gamma * gae_lambda)
    advantage_N = sweep_TB[column_N, row_N]
    return advantage_N, advantage_N + value_N


@torch.no_grad()
def rewards_to_go(reward_N: Tensor, lengths: Sequence[int]) -> Tensor:
    """The sum of the rewards from each token to the end of its sequence (N)."""
    return gae(reward_N, torch.zeros_like(reward_N), lengths, gamma=1.0, gae_lambda=1.0)[0]


@torch.no_grad()
def group_mean(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """The mean of each sequence's own group (B); `group_B` numbers the groups from 0."""
    size_G = torch.bincount(group_B)
    return (reward_B.new_zeros(len(size_G)).index_add(0, group_B, reward_B) / size_G)[group_B]


@torch.no_grad()
def group_relative(reward_B: Tensor, group_B: Tensor, *, scale_by_std: bool) -> Tensor:
    """What a sequence has above the mean of its group, in standard deviations of the group or as it is (B).

    The deviation is that of a sample, with one degree of freedom less than the group has sequences (two at least).
    """
    centred_B = reward_B - group_mean(reward_B, group_B)
    if not scale_by_std:
        return centred_B
    size_B = torch.bincount(group_B)[group_B]
    std_B = (group_mean(centred_B.square(), group_B) * size_B / (size_B - 1)).sqrt()
    return centred_B / (std_B + STD_EPSILON)


@torch.no_grad()
def leave_one_out(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """What a sequence has above the mean of the others of its group (B), of which there is one at least."""
    size_B = torch.bincount(group_B)[group_B]
    return (reward_B - group_mean(reward_B, group_B)) * size_B / (size_B - 1)


@torch.no_grad()
def whiten(values_N: Tensor, mask_N: Tensor, shift_mean: bool = True) -> Tensor:
    """Values with spread 1 and mean 0 (or their own mean) over the mask; 0 where the mask is False.

    The spread is that of the whole population; equal values become 0 (or stay).
    """
    kept_N = torch.where(mask_N, values_N, 0.0)
    count = mask_N.sum().clamp_min(1)
    mean = kept_N.sum() / count
    centred_N = torch.where(mask_N, kept_N - mean, 0.0)
    white_N = centred_N * (centred_N.square().sum() / count + 1e-8).rsqrt()
    return white_N if shift_mean else torch.where(mask_N, white_N + mean, 0.0)
