"""Pairs without a reference: SimPO (Meng et al. 2024, arXiv 2405.14734) and ORPO (Hong et al. 2024, 2403.07691).

    a       = (1/|y|) log pi(y | x)                           the mean over the completion's tokens, its end included
    SimPO   L = (1/M) sum_p  w log(1 + e^(gamma - m)) + (1 - w) log(1 + e^(gamma + m)),   m = beta (a_c - a_r)
    ORPO    L = (lambda/M) sum_p  w log(1 + e^-o) + (1 - w) log(1 + e^o),    o = log odds(chosen) - log odds(rejected)
            odds(y) = p / (1 - p) with p = e^a                (beside SFT on the better answers, `pair_sft_loss`)

w is the probability that `chosen` is better: the mean over the people that it summarises. M = `step_pairs`.

Shapes: P pairs, B sequences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from assent.losses.direct import Compared, DirectLoss

_CERTAIN = -(2.0**-24)  # the mean log-probability nearest to 0 whose odds float32 can tell: p = 1 has none


def simpo_loss(logp: Compared, *, beta: float, gamma: float, step_pairs: float) -> DirectLoss:
    """SimPO on mean log-probabilities; beta a is the reward, `gamma` the margin by which the better one has to win."""
    chosen_P, rejected_P, probability_P = beta * logp.chosen_P, beta * logp.rejected_P, logp.probability_P
    margin_P = chosen_P - rejected_P
    loss_P = probability_P * softplus(gamma - margin_P) + (1 - probability_P) * softplus(gamma + margin_P)
    return DirectLoss.of(loss_P.sum() / step_pairs, chosen_P, rejected_P, probability_P)


def odds_ratio_loss(logp: Compared, *, coef: float, step_pairs: float) -> DirectLoss:
    """ORPO's preference term on mean log-probabilities, `coef` being its lambda; the rewards are log odds."""
    chosen_P, rejected_P, probability_P = log_odds(logp.chosen_P), log_odds(logp.rejected_P), logp.probability_P
    odds_P = chosen_P - rejected_P
    loss_P = probability_P * softplus(-odds_P) + (1 - probability_P) * softplus(odds_P)
    return DirectLoss.of(coef * loss_P.sum() / step_pairs, chosen_P, rejected_P, probability_P)


def log_odds(logp_B: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(logp_B), in float32 at least; of a certain sequence it is finite, without gradient.

    log(1 - e^a) is taken the way that loses no digits: log1p(-e^a) below -log 2, log(-expm1(a)) above (Maechler 2012).
    """
    wide_B = logp_B if logp_B.dtype == torch.float64 else logp_B.float()
    wide_B = wide_B.clamp_max(_CERTAIN)
    far_B = wide_B < -math.log(2)
    complement_B = torch.where(
        far_B,
        torch.log1p(-torch.where(far_B, wide_B, -1.0).exp()),
        torch.log(-torch.expm1(torch.where(far_B, -0.5, wide_B))),
    )
    return wide_B - complement_B
