"""CISPO: REINFORCE on groups with capped importance weights (Chen et al. 2025, MiniMax-M1, arXiv 2506.13585).

L = -(1/M) sum_n sg(min(rho_n, max_importance_weight)) A_n log pi(y_n)        A as in GRPO

Where a clip would stop a token's gradient, the cap leaves it. The paper has no bound below, and neither has this.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from assent.algorithms.grpo import RelativeSettings, relative_advantages
from assent.algorithms.on_policy.experience import Sample, column, weights
from assent.algorithms.on_policy.update import OnPolicyMethod, policy_loss
from assent.losses.policy import PolicyLoss, capped_policy_loss


class CISPOSettings(RelativeSettings):
    """Settings of CISPO; the cap is the largest weight itself, not a distance from 1."""

    max_importance_weight: float = Field(default=5.0, gt=0)


def _capped(logp_M: Tensor, samples: Sequence[Sample], step_tokens: float, settings: CISPOSettings) -> PolicyLoss:
    return capped_policy_loss(
        logp_M, column(samples, "logp", logp_M), column(samples, "advantage", logp_M) * weights(samples, logp_M),
        torch.ones_like(logp_M, dtype=torch.bool),
        max_importance_weight=settings.max_importance_weight, step_tokens=step_tokens,
    )  # fmt: skip


CISPO = OnPolicyMethod(advantages=relative_advantages, per_token=False, loss=partial(policy_loss, surrogate=_capped))
