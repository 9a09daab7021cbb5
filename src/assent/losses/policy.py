"""Losses of a policy and its critic: clipped (Schulman et al. 2017, arXiv 1707.06347), of whole sequences, with capped
weights; clipped value; entropy bonus.

    rho_n    = exp(logp_n - old_logp_n)
    L_policy = -(1/M) sum_n min(rho_n A_n, clip(rho_n, 1 - clip_range_low, 1 + clip_range_high) A_n)
    L_capped = -(1/M) sum_n sg(min(rho_n, max_importance_weight)) A_n logp_n      CISPO, Chen et al. 2025, 2506.13585
    L_value  = (1/2M) sum_n max((v_n - R_n)^2, (old_v_n + clip(v_n - old_v_n, -clip, clip) - R_n)^2)
    L_H      = -(1/M) sum_n H_n

M = `step_tokens`, the tokens that count in the whole optimiser step, so that micro-batches add up. Positions where the
mask is False contribute nothing, neither to losses nor to gradients, even where they hold nan.

Weights of tokens are part of A_n. For a ratio of whole sequences, see `sequence_ratio`.

Shapes: N tokens of a flat batch, of B sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoss:
    """`loss` carries the gradient; the rest are detached sums over the tokens that count in this micro-batch.

    `clipped`: tokens whose gradient the clip has stopped, or whose weight was capped.
    """

    loss: Tensor
    clipped: Tensor
    ratio: Tensor


def clipped_policy_loss(
    logp_N: Tensor,
    old_logp_N: Tensor,
    advantage_N: Tensor,
    mask_N: Tensor,
    *,
    clip_range_low: float,
    clip_range_high: float,
    step_tokens: float,
) -> PolicyLoss:
    """PPO's clipped objective, negated. For a sampler that differs, multiply `advantage_N` by `sampler_weight`."""
    log_ratio_N = torch.where(mask_N, logp_N - old_logp_N.detach(), 0.0)
    advantage_N = torch.where(mask_N, advantage_N.detach(), 0.0)
    ratio_N = log_ratio_N.exp()
    clipped_N = ratio_N.clamp(1 - clip_range_low, 1 + clip_range_high)
    objective_N = torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
    with torch.no_grad():
        stopped_N = mask_N & (clipped_N * advantage_N < ratio_N * advantage_N)
    return PolicyLoss(
        loss=-torch.where(mask_N, objective_N, 0.0).sum() / step_tokens,
        clipped=stopped_N.sum(),
        ratio=torch.where(mask_N, ratio_N, 0.0).sum().detach(),
    )


def sequence_ratio(logp_N: Tensor, old_logp_N: Tensor, lengths: Sequence[int], *, average: bool) -> Tensor:
    """Log-probabilities that stand to the old ones, at every token, as the whole sequence does.

    The ratio of a sequence is that of its probabilities, or with `average` its geometric mean over the tokens (GSPO,
    Zheng et al. 2025, arXiv 2507.18071). `lengths` are positive and sum to N.
    """
    count_B = torch.tensor(lengths, device=logp_N.device)
    row_N = torch.repeat_interleave(torch.arange(len(lengths), device=logp_N.device), count_B)
    log_ratio_N = logp_N - old_logp_N.detach()
    log_ratio_B = log_ratio_N.new_zeros(len(lengths)).index_add(0, row_N, log_ratio_N)
    return old_logp_N.detach() + (log_ratio_B / count_B if average else log_ratio_B)[row_N]


def capped_policy_loss(
    logp_N: Tensor,
    old_logp_N: Tensor,
    advantage_N: Tensor,
    mask_N: Tensor,
    *,
    max_importance_weight: float,
    step_tokens: float,
) -> PolicyLoss:
    """REINFORCE with importance weights that are capped above and never below: every token keeps a gradient."""
    logp_N = torch.where(mask_N, logp_N, 0.0)
    ratio_N = torch.where(mask_N, logp_N - old_logp_N, 0.0).exp().detach()
    advantage_N = torch.where(mask_N, advantage_N.detach(), 0.0)
    return PolicyLoss(
        loss=-(ratio_N.clamp_max(max_importance_weight) * advantage_N * logp_N).sum() / step_tokens,
        clipped=(mask_N & (ratio_N > max_importance_weight)).sum(),
        ratio=torch.where(mask_N, ratio_N, 0.0).sum(),
    )


@torch.no_grad()
def sampler_weight(logp_N: Tensor, sampler_logp_N: Tensor, *, cap: float) -> Tensor:
    """Truncated importance weights min(pi(learner) / pi(sampler), cap), detached (Ionides 2008).

    `logp_N` is the learner's own recomputation with the weights the sampler had; the product with the advantage
    corrects the policy gradient for a sampler whose arithmetic differs. All ones where both agree.
    """
    return (logp_N - sampler_logp_N).exp().clamp_max(cap)


def clipped_value_loss(
    value_N: Tensor, old_value_N: Tensor, return_N: Tensor, mask_N: Tensor, *, clip: float | None, step_tokens: float
) -> Tensor:
    """Half the squared error to the return, where a step beyond `clip` from the old value earns nothing."""
    value_N = torch.where(mask_N, value_N, 0.0)
    return_N = torch.where(mask_N, return_N.detach(), 0.0)
    old_value_N = torch.where(mask_N, old_value_N.detach(), 0.0)
    worst_N = (value_N - return_N).square()
    if clip is not None:
        near_N = old_value_N + (value_N - old_value_N).clamp(-clip, clip)
        worst_N = torch.maximum(worst_N, (near_N - return_N).square())
    return 0.5 * worst_N.sum() / step_tokens


def entropy_bonus(entropy_N: Tensor, mask_N: Tensor, *, step_tokens: float) -> Tensor:
    """Sum of entropies / `step_tokens`: subtract a multiple of it from the loss."""
    return torch.where(mask_N, entropy_N, 0.0).sum() / step_tokens
