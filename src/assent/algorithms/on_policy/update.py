"""The clipped policy update that on-policy methods share, and what makes a method.

L = clipped policy loss - c_e entropy (+ beta KL, if the KL is in the loss)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from assent.algorithms.on_policy.experience import Experience, Sample, column
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.losses.policy import clipped_policy_loss, entropy_bonus
from assent.ports.learning import LossResult, Outputs

CriticKind = Literal["shared", "separate"]


def policy_loss(
    outputs: Outputs, samples: Sequence[Sample], step_tokens: float, *, settings: OnPolicySettings, kl: KLShaping
) -> LossResult:
    """The loss of one micro-batch for a policy alone."""
    logp_M, every_M = outputs["logp"], torch.ones_like(outputs["logp"], dtype=torch.bool)
    policy = clipped_policy_loss(
        logp_M, column(samples, "logp", logp_M), column(samples, "advantage", logp_M), every_M,
        clip_range_low=settings.clip_range_low, clip_range_high=settings.clip_range_high, step_tokens=step_tokens,
    )  # fmt: skip
    loss = policy.loss + kl.loss(outputs, step_tokens)
    if "entropy" in outputs:
        loss = loss - settings.entropy_coef * entropy_bonus(outputs["entropy"], every_M, step_tokens=step_tokens)
    sums = {
        "policy_loss": policy.loss.item() * step_tokens,
        "clip_fraction": policy.clipped.item(),
        "approx_kl": policy.kl.item(),
        "ratio": policy.ratio.item(),
    }
    return LossResult(loss=loss, sums=sums, count=float(len(logp_M)))


def no_critics(settings: OnPolicySettings) -> Mapping[str, CriticKind]:
    """A method that has no critic."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPolicyMethod:
    """What makes an on-policy method: how advantages are made, which critics it learns, and its loss.

    `advantages` is given the experience, the rewards of its tokens (N) and the settings; it returns columns (N), of
    which one is `advantage`. `loss` is `policy_loss` or adds to it; it may read every column.
    """

    advantages: Callable[[Experience, Tensor, Any], dict[str, Tensor]]
    loss: Callable[..., LossResult] = policy_loss
    critics: Callable[[Any], Mapping[str, CriticKind]] = no_critics
