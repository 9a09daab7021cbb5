"""Direct preference optimisation: DPO (Rafailov et al. 2023, arXiv 2305.18290), IPO (Azar et al. 2023, 2310.12036).

    h_b    = log pi(y_b | x_b) - log ref(y_b | x_b)           summed over the completion's tokens (IPO: their mean)
    d_p    = h_chosen - h_rejected
    L_DPO  = -(1/M) sum_p  w_p log s(beta d_p) + (1 - w_p) log s(-beta d_p)
    L_IPO  =  (1/M) sum_p  (d_p - (2 w_p - 1) / (2 beta))^2

w is the probability that `chosen` is better, by label smoothing e taken to w (1 - e) + (1 - w) e; M = `step_pairs`.
The implicit reward is beta h.

Shapes: N tokens of B sequences in one flat row, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import softplus

from assent.losses.preference import agreement


class DirectForm(StrEnum):
    """Which loss of the log-ratio difference."""

    SIGMOID = "sigmoid"
    IPO = "ipo"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectLoss:
    """`loss` carries the gradient; the rest are detached sums over this micro-batch.

    `chosen_reward` and `rejected_reward` are implicit rewards, `margin` their difference; `correct` as in
    `PreferenceLoss`.
    """

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor
    margin: Tensor
    correct: Tensor


def sequence_log_ratio(
    logp_N: Tensor, reference_logp_N: Tensor, mask_N: Tensor, lengths: Sequence[int], *, average: bool = False
) -> Tensor:
    """log pi / ref of each of B sequences: the sum over its tokens in the mask, or with `average` their mean (IPO).

    `lengths` sum to N. A sequence without tokens in the mask has ratio 0.
    """
    if sum(lengths) != logp_N.shape[0]:
        raise ValueError(f"lengths sum to {sum(lengths)} for {logp_N.shape[0]} tokens")
    ratio_N = torch.where(mask_N, logp_N - reference_logp_N.detach(), 0.0)
    length_B = torch.tensor(lengths, device=logp_N.device, dtype=torch.long)
    row_N = torch.repeat_interleave(torch.arange(len(lengths), device=logp_N.device), length_B)
    ratio_B = ratio_N.new_zeros(len(lengths)).index_add(0, row_N, ratio_N)
    if not average:
        return ratio_B
    tokens_B = ratio_N.new_zeros(len(lengths)).index_add(0, row_N, mask_N.to(ratio_N.dtype))
    return ratio_B / tokens_B.clamp_min(1.0)


def dpo_loss(
    chosen_ratio_P: Tensor,
    rejected_ratio_P: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    probability_P: Tensor | None = None,
    form: DirectForm = DirectForm.SIGMOID,
    step_pairs: float,
) -> DirectLoss:
    """DPO or IPO on log-ratios from `sequence_log_ratio`, which for IPO has to be called with `average=True`."""
    gap_P = chosen_ratio_P - rejected_ratio_P
    label_P = torch.ones_like(gap_P) if probability_P is None else probability_P
    label_P = label_P * (1 - label_smoothing) + (1 - label_P) * label_smoothing
    if form is DirectForm.IPO:
        loss_P = (gap_P - (2 * label_P - 1) / (2 * beta)).square()
    else:
        loss_P = softplus(-beta * gap_P) + (1 - label_P) * beta * gap_P
    return DirectLoss(
        loss=loss_P.sum() / step_pairs,
        chosen_reward=beta * chosen_ratio_P.detach().sum(),
        rejected_reward=beta * rejected_ratio_P.detach().sum(),
        margin=beta * gap_P.detach().sum(),
        correct=agreement(gap_P.detach(), probability_P).sum(),
    )
