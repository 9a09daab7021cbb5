"""Reward models from preferences: Bradley-Terry on pairs, Plackett-Luce on rankings, labels on single completions.

    d_p     = r_chosen - r_rejected - margin                  Bradley & Terry 1952; margin: Llama 2 (arXiv 2307.09288)
    L_pair  = -(1/M) sum_p  w_p log s(d_p) + (1 - w_p) log s(-d_p)         w: probability that `chosen` is better
            +  (1/M) sum_p  c (r_chosen + r_rejected)^2       centring, Eisenstein et al. 2023 (arXiv 2312.09244)
    L_rank  = -(1/M) sum_rankings sum_i  r_(i) - log sum_{j >= i} exp r_(j)            Plackett 1975, Luce 1959
    L_label = -(1/M) sum_b  y_b log s(z_b) + (1 - y_b) log s(-z_b)

s is the logistic function and M the caller's count over the whole optimiser step. A tie in a ranking is every order of
the tied completions, each as likely: the loss is the mean of L_rank over these orders. For two completions this is a
pair with w = 1/2. In the mean over orders each set S of completions still to be placed is met with a known
probability, so m tied completions cost 2^m terms, not m! orders.

Shapes: P pairs, N completions of all rankings in one flat row, B single completions,
T terms of one ranking, K the completions in the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

TIED_LIMIT = 12  # 2^12 terms; annotators do not rank more completions than this as one tie


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceLoss:
    """`loss` carries the gradient; the rest are detached sums over this micro-batch.

    `correct`: pairs whose difference has the sign of the label; no difference, or a tie as label, counts one half.
    `margin`: chosen - rejected. `squared_sum`: (chosen + rejected)^2, what centring pulls to zero.
    """

    loss: Tensor
    correct: Tensor
    margin: Tensor
    squared_sum: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingLoss:
    """`loss` carries the gradient; the rest are detached sums over this micro-batch.

    `pairs`: pairs of one ranking with different ranks; `correct`: those whose rewards agree (equal ones count half).
    """

    loss: Tensor
    correct: Tensor
    pairs: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryLoss:
    """`loss` carries the gradient; `correct` is the detached number of logits on the side of their label."""

    loss: Tensor
    correct: Tensor


def bradley_terry_loss(
    chosen_P: Tensor,
    rejected_P: Tensor,
    *,
    probability_P: Tensor | None = None,
    margin_P: Tensor | None = None,
    step_pairs: float,
    centre: float = 0.0,
) -> PreferenceLoss:
    """Cross-entropy of pairs. `probability_P` in [0, 1] is a soft label (1/2 a tie), `margin_P` a gap to exceed."""
    gap_P = chosen_P - rejected_P
    needed_P = gap_P if margin_P is None else gap_P - margin_P
    loss_P = softplus(-needed_P)
    if probability_P is not None:
        loss_P = loss_P + (1.0 - probability_P) * needed_P
    sum_P = chosen_P + rejected_P
    if centre:
        loss_P = loss_P + centre * sum_P.square()
    return PreferenceLoss(
        loss=loss_P.sum() / step_pairs,
        correct=agreement(gap_P.detach(), probability_P).sum(),
        margin=gap_P.detach().sum(),
        squared_sum=sum_P.detach().square().sum(),
    )


def agreement(gap_P: Tensor, probability_P: Tensor | None = None) -> Tensor:
    """1 where the sign of the gap is the label's, 0 where it is not, 1/2 without a sign on either side."""
    side_P = 1.0 if probability_P is None else (probability_P - 0.5).sign()
    return 0.5 + 0.5 * gap_P.sign() * side_P


def plackett_luce_loss(reward_N: Tensor, ranks: Sequence[Sequence[int]], *, step_rankings: float) -> RankingLoss:
    """Negative log-likelihood of rankings; `ranks` holds one tuple per ranking (1 is best, equal ranks are ties).

    `reward_N` holds the rewards of the first ranking's completions, then of the second's, and so on.
    """
    if sum(map(len, ranks)) != reward_N.shape[0]:
        raise ValueError(f"{sum(map(len, ranks))} ranks for {reward_N.shape[0]} rewards")
    if not ranks:
        zero = reward_N.sum()
        return RankingLoss(loss=zero / step_rankings, correct=zero.detach(), pairs=zero.detach())
    members: list[tuple[int, ...]] = []
    weights: list[float] = []
    better: list[int] = []
    worse: list[int] = []
    start = 0
    for rank_K in ranks:
        for weight, remaining in _terms(tuple(rank_K)):
            weights.append(weight)
            members.append(tuple(start + index for index in remaining))
        ordered = [(i, j) for i, j in combinations(range(len(rank_K)), 2) if rank_K[i] != rank_K[j]]
        better += [start + (i if rank_K[i] < rank_K[j] else j) for i, j in ordered]
        worse += [start + (j if rank_K[i] < rank_K[j] else i) for i, j in ordered]
        start += len(rank_K)
    widest = max(map(len, members))
    padded_TK = torch.tensor([[*row, *[-1] * (widest - len(row))] for row in members], device=reward_N.device)
    remaining_TK = torch.where(padded_TK >= 0, reward_N[padded_TK.clamp_min(0)], -torch.inf)
    negative_logp = reward_N.new_tensor(weights) @ remaining_TK.logsumexp(1) - reward_N.sum()
    gap_P = (reward_N[better] - reward_N[worse]).detach()
    return RankingLoss(
        loss=negative_logp / step_rankings, correct=agreement(gap_P).sum(), pairs=reward_N.new_tensor(len(better))
    )


@lru_cache(maxsize=4096)
def _terms(rank_K: tuple[int, ...]) -> tuple[tuple[float, tuple[int, ...]], ...]:
    """(probability, indices still to be placed) over random orders of tied completions, for every step of placing."""
    terms = []
    for rank in sorted(set(rank_K)):
        tied = [index for index, other in enumerate(rank_K) if other == rank]
        later = tuple(index for index, other in enumerate(rank_K) if other > rank)
        if len(tied) > TIED_LIMIT:
            raise ValueError(f"{len(tied)} completions share rank {rank}; at most {TIED_LIMIT} may")
        for size in range(1, len(tied) + 1):
            weight = 1.0 / math.comb(len(tied), size)
            terms += [(weight, (*subset, *later)) for subset in combinations(tied, size)]
    return tuple(terms)


def binary_loss(logit_B: Tensor, label_B: Tensor, *, step_count: float) -> BinaryLoss:
    """Cross-entropy of good (1) against bad (0) labels, which may be soft."""
    loss = binary_cross_entropy_with_logits(logit_B, label_B.to(logit_B.dtype), reduction="sum")
    return BinaryLoss(loss=loss / step_count, correct=agreement(logit_B.detach(), label_B).sum())
