"""Direct preference optimisation on pairs: DPO and its forms.

    h_b    = log pi(y_b | x_b) - log ref(y_b | x_b)           summed over the completion's tokens, or their mean
    d_p    = h_chosen - h_rejected,   m_p = beta d_p
    L      = (1/M) sum_p  l(p)
    sigmoid      w log(1 + e^-m) + (1 - w) log(1 + e^m)                 DPO, Rafailov et al. 2023 (arXiv 2305.18290)
    ipo          (d - (2 w - 1) / (2 beta))^2                           Azar et al. 2023 (2310.12036); h is a mean
    hinge        w max(0, 1 - m) + (1 - w) max(0, 1 + m)                SLiC, Zhao et al. 2023 (2305.10425)
    exponential  w e^-m + (1 - w) e^m                                   GPO, Tang et al. 2024 (2402.05749)
    nca          -w log s(c) - (1 - w) log s(r) - 1/2 log s(-c) - 1/2 log s(-r),   c, r = beta h of both sides
                                                                        NCA, Chen et al. 2024 (2402.05369)
    robust       sigmoid with w <- (w - e) / (1 - 2 e)                  rDPO, Chowdhury et al. 2024 (2403.00409)

w is the probability that `chosen` is better; label smoothing e takes it to w (1 - e) + (1 - w) e (cDPO, Mitchell 2023),
of which the robust form is the inverse: labels that were flipped with probability e cost on average what the true ones
would. M = `step_pairs`. The implicit reward is beta h.

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
    """Which loss of a pair's log-ratios."""

    SIGMOID = "sigmoid"
    IPO = "ipo"
    HINGE = "hinge"
    ROBUST = "robust"
    EXPONENTIAL = "exponential"
    NCA = "nca"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A number of each side of P pairs (log-ratio or log-probability), and the probability that `chosen` is better."""

    chosen_P: Tensor
    rejected_P: Tensor
    probability_P: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectShape:
    """What `dpo_loss` makes of a pair: the form, its beta, and the share of labels that are assumed to be wrong."""

    beta: float
    form: DirectForm = DirectForm.SIGMOID
    label_smoothing: float = 0.0


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

    @classmethod
    def of(cls, loss: Tensor, chosen_P: Tensor, rejected_P: Tensor, probability_P: Tensor) -> DirectLoss:
        """A loss with the sums of the rewards that it compares."""
        chosen_P, rejected_P = chosen_P.detach(), rejected_P.detach()
        return cls(
            loss=loss,
            chosen_reward=chosen_P.sum(),
            rejected_reward=rejected_P.sum(),
            margin=(chosen_P - rejected_P).sum(),
            correct=agreement(chosen_P - rejected_P, probability_P).sum(),
        )


def sequence_logp(logp_N: Tensor, mask_N: Tensor, lengths: Sequence[int], *, average: bool = False) -> Tensor:
    """The log-probability (or log-ratio) of each of B sequences: the sum over its tokens in the mask, or their mean.

    `lengths` sum to N. A sequence without tokens in the mask has 0.
    """
    if sum(lengths) != logp_N.shape[0]:
        raise ValueError(f"lengths sum to {sum(lengths)} for {logp_N.shape[0]} tokens")
    kept_N = torch.where(mask_N, logp_N, 0.0)
    length_B = torch.tensor(lengths, device=logp_N.device, dtype=torch.long)
    row_N = torch.repeat_interleave(torch.arange(len(lengths), device=logp_N.device), length_B)
    logp_B = kept_N.new_zeros(len(lengths)).index_add(0, row_N, kept_N)
    if not average:
        return logp_B
    tokens_B = kept_N.new_zeros(len(lengths)).index_add(0, row_N, mask_N.to(kept_N.dtype))
    return logp_B / tokens_B.clamp_min(1.0)


def dpo_loss(ratio: Compared, shape: DirectShape, *, step_pairs: float) -> DirectLoss:
    """The loss of log-ratios; with log-probabilities in their place the reference is uniform."""
    beta, wrong, form, probability_P = shape.beta, shape.label_smoothing, shape.form, ratio.probability_P
    gap_P = ratio.chosen_P - ratio.rejected_P
    chosen_P, rejected_P = beta * ratio.chosen_P, beta * ratio.rejected_P
    label_P = probability_P * (1 - wrong) + (1 - probability_P) * wrong
    if form is DirectForm.IPO:
        loss_P = (gap_P - (2 * label_P - 1) / (2 * beta)).square()
    elif form is DirectForm.HINGE:
        loss_P = label_P * (1 - beta * gap_P).relu() + (1 - label_P) * (1 + beta * gap_P).relu()
    elif form is DirectForm.EXPONENTIAL:  # the label stands in the exponent: 0 times what overflows would be nan
        loss_P = (label_P.log() - beta * gap_P).exp() + ((1 - label_P).log() + beta * gap_P).exp()
    elif form is DirectForm.NCA:
        attracted_P = label_P * softplus(-chosen_P) + (1 - label_P) * softplus(-rejected_P)
        loss_P = attracted_P + (softplus(chosen_P) + softplus(rejected_P)) / 2
    else:
        if form is DirectForm.ROBUST:
            label_P = (probability_P - wrong) / (1 - 2 * wrong)
        loss_P = softplus(-beta * gap_P) + (1 - label_P) * beta * gap_P
    return DirectLoss.of(loss_P.sum() / step_pairs, chosen_P, rejected_P, probability_P)


def pair_sft_loss(logp: Compared, *, step_pairs: float) -> Tensor:
    """L = -(1/M) sum_p  w a_chosen + (1 - w) a_rejected, a the mean log-probability of a token: SFT on better answers.

    RPO (Pang et al. 2024, arXiv 2404.19733), CPO and ORPO add it, for a margin also grows while both sides become
    unlikely.
    """
    return -(logp.probability_P * logp.chosen_P + (1 - logp.probability_P) * logp.rejected_P).sum() / step_pairs
