"""Implicit language Q-learning (Snell et al. 2022, arXiv 2206.11871): a token is an action, the text before it a state.

    y_n   = r_n + gamma v_{n+1}               v_{n+1}: of the next state of the same dialogue, 0 behind its last token
    u_n   = min(target q1_n, target q2_n) - v_n
    L_Q   = (1/M) sum_n (q1_n - y_n)^2 + (q2_n - y_n)^2                           y has no gradient
    L_V   = (1/M) sum_n |expectile - 1[u_n < 0]| u_n^2                            of v alone; Kostrikov et al. 2021
    L_CQL = -(1/M) sum_n log softmax(q1(s_n))[a_n] + log softmax(q2(s_n))[a_n]    Kumar et al. 2020, 2006.04779
    L_pi  = -(1/M) sum_n min(e^(awac_beta u_n), MAX_WEIGHT) log pi(a_n | s_n)     Nair et al. 2020, 2006.09359
    L     = L_Q + L_V + cql_coef L_CQL + awac_coef L_pi

q_n is Q(s_n, a_n) of the token that was written. pi is the behaviour policy: cloned, at awac_beta 0. M = `step_tokens`.

Shapes: N tokens of B dialogues in one flat row, dialogue after dialogue; 2 Q functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_WEIGHT = 100.0  # as in the code of IQL (Kostrikov et al. 2021, arXiv 2110.06169)


@dataclass(frozen=True, slots=True, kw_only=True)
class ILQLShape:
    """What `ilql_loss` makes of values: the discount of a token, the expectile, and the weights of the terms."""

    gamma: float
    expectile: float
    cql_coef: float
    awac_coef: float
    awac_beta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenValues:
    """What networks say of the tokens that were written.

    `q_2N` by both Q functions and `q_logp_2N` under the softmax of each, `target_q_N` the lesser of their targets,
    `v_N` of the states, `logp_N` by the behaviour policy.
    """

    q_2N: Tensor
    q_logp_2N: Tensor
    target_q_N: Tensor
    v_N: Tensor
    logp_N: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ILQLLoss:
    """`loss` carries the gradient; the rest are detached sums over this micro-batch: of the four terms, of u."""

    loss: Tensor
    q: Tensor
    v: Tensor
    cql: Tensor
    policy: Tensor
    advantage: Tensor


def ilql_loss(
    values: TokenValues, reward_N: Tensor, lengths: Sequence[int], shape: ILQLShape, *, step_tokens: float
) -> ILQLLoss:
    """The loss of logged dialogues of so many tokens each, with the reward that followed each token."""
    return_N = reward_N + shape.gamma * next_values(values.v_N.detach(), lengths)
    advantage_N = values.target_q_N.detach() - values.v_N
    side_N = (shape.expectile - (advantage_N < 0).to(advantage_N.dtype)).abs()
    weight_N = (shape.awac_beta * advantage_N.detach()).exp().clamp_max(MAX_WEIGHT)
    q, v = (values.q_2N - return_N).square().sum(), (side_N * advantage_N.square()).sum()
    cql, policy = -values.q_logp_2N.sum(), -(weight_N * values.logp_N).sum()
    return ILQLLoss(
        loss=(q + v + shape.cql_coef * cql + shape.awac_coef * policy) / step_tokens,
        q=q.detach(), v=v.detach(), cql=cql.detach(), policy=policy.detach(), advantage=advantage_N.detach().sum(),
    )  # fmt: skip


def next_values(value_N: Tensor, lengths: Sequence[int]) -> Tensor:
    """The value of the state after each token (N): that before the dialogue's next one, 0 where it ends.

    `lengths` are positive and sum to N.
    """
    if sum(lengths) != value_N.shape[0] or min(lengths, default=1) < 1:
        raise ValueError(f"lengths must be positive and sum to {value_N.shape[0]}, got {list(lengths)}")
    next_N = value_N.roll(-1)
    next_N[torch.tensor(lengths, device=value_N.device, dtype=torch.long).cumsum(0) - 1] = 0.0
    return next_N
