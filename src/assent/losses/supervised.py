"""Supervised fine-tuning: cross-entropy of the tokens that count (the assistant's own).

    L = -(1 / step_tokens) sum_n m_n logp_n

Shapes: N tokens of a flat batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedLoss:
    """`loss` carries the gradient; the rest are detached sums over this micro-batch."""

    loss: Tensor
    negative_logp: Tensor
    tokens: Tensor


def supervised_loss(logp_N: Tensor, mask_N: Tensor, *, step_tokens: float) -> SupervisedLoss:
    """Cross-entropy over the tokens where `mask_N` is True; `step_tokens` counts them over the whole optimiser step."""
    negative_logp = -torch.where(mask_N, logp_N, 0.0).sum()
    return SupervisedLoss(loss=negative_logp / step_tokens, negative_logp=negative_logp.detach(), tokens=mask_N.sum())
