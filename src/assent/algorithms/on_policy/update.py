"""The policy update that on-policy methods share, and what makes a method.

L = surrogate - c_e entropy (+ beta KL, if the KL is in the loss)

Each is a sum over tokens w_n (...) / M, where M are the tokens of the optimiser step and w_n says what a token counts:

    token     1               the mean over all tokens                                    (PPO, DAPO)
    sequence  M / (B T_b)     the mean over samples of the mean over their tokens         (GRPO, GSPO)
    constant  M / (B T_max)   the sum over tokens / what B samples could have at most     (Dr. GRPO)
    sum       M / B           the mean over samples of the sum over their tokens          (RLOO)

Legend: M tokens of a micro-batch or of the step, B samples of the step, T_b tokens of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from assent.algorithms.epochs import predicted_tokens
from assent.algorithms.on_policy.experience import Experience, Sample, column, weights
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.settings import ClippedSettings, OnPolicySettings
from assent.losses.kl import kl_k3
from assent.losses.lagrangian import LagrangeMultiplier
from assent.losses.policy import PolicyLoss, clipped_policy_loss, entropy_bonus, sequence_ratio
from assent.ports.learning import LossResult, Outputs

CriticKind = Literal["shared", "separate"]
Normalisation = Literal["token", "sequence", "constant", "sum"]
Surrogate = Callable[[Tensor, Sequence[Sample], float, Any], PolicyLoss]
"""(log-probabilities of some samples, these samples, the tokens of the step, settings)."""


def weighted(samples: Sequence[Sample], normalisation: Normalisation, *, max_tokens: int) -> list[Sample]:
    """The samples of an optimiser step with what their tokens count."""
    if normalisation == "token":
        return list(samples)
    share = sum(sample.tokens.predicted for sample in samples) / len(samples)
    over = {"constant": max_tokens, "sum": 1}
    return [replace(one, weight=share / over.get(normalisation, one.tokens.predicted)) for one in samples]


def clipped(logp_M: Tensor, samples: Sequence[Sample], step_tokens: float, settings: ClippedSettings) -> PolicyLoss:
    """PPO's surrogate."""
    return clipped_policy_loss(
        logp_M, column(samples, "logp", logp_M), column(samples, "advantage", logp_M) * weights(samples, logp_M),
        torch.ones_like(logp_M, dtype=torch.bool),
        clip_range_low=settings.clip_range_low, clip_range_high=settings.clip_range_high, step_tokens=step_tokens,
    )  # fmt: skip


def clipped_sequences(
    logp_M: Tensor, samples: Sequence[Sample], step_tokens: float, settings: ClippedSettings, *, average: bool
) -> PolicyLoss:
    """PPO's surrogate with one ratio for a whole sample, or with its geometric mean: the mean over samples."""
    lengths = [sample.tokens.predicted for sample in samples]
    logp_M = sequence_ratio(logp_M, column(samples, "logp", logp_M), lengths, average=average)
    if not average:  # a token weighs 1 / B here, and all T_b of a sample stand for one ratio
        samples = [replace(one, weight=one.weight / length) for one, length in zip(samples, lengths, strict=True)]
    return clipped(logp_M, samples, step_tokens, settings)


def policy_loss(
    outputs: Outputs, samples: Sequence[Sample], step_tokens: float, *,
    settings: OnPolicySettings, kl: KLShaping, surrogate: Surrogate = clipped,
) -> LossResult:  # fmt: skip
    """The loss of one micro-batch for a policy alone."""
    logp_M = outputs["logp"]
    weight_M = weights(samples, logp_M)
    policy = surrogate(logp_M, samples, step_tokens, settings)
    loss = regularised(policy.loss, outputs, weight_M, step_tokens, settings=settings, kl=kl)
    sums = {
        "policy_loss": policy.loss.item() * step_tokens,
        "clip_fraction": policy.clipped.item(),
        "approx_kl": kl_k3(column(samples, "logp", logp_M), logp_M.detach()).sum().item(),
        "ratio": policy.ratio.item(),
    }
    return LossResult(loss=loss, sums=sums, count=float(len(logp_M)))


def regularised(
    loss: Tensor, outputs: Outputs, weight_M: Tensor, step_tokens: float, *, settings: OnPolicySettings, kl: KLShaping
) -> Tensor:
    """A loss with the KL (if it belongs in the loss) and less the entropy bonus."""
    loss = loss + kl.loss(outputs, weight_M, step_tokens)
    if "entropy" not in outputs:
        return loss
    every_M = torch.ones_like(weight_M, dtype=torch.bool)
    return loss - settings.entropy_coef * entropy_bonus(weight_M * outputs["entropy"], every_M, step_tokens=step_tokens)


def every_sample(samples: Sequence[Sample], settings: OnPolicySettings) -> Sequence[Sample]:
    """A method that learns from all that was written."""
    return samples


def no_multiplier(settings: OnPolicySettings) -> LagrangeMultiplier | None:
    """A method without a budget."""
    return None


def no_critics(settings: OnPolicySettings) -> Mapping[str, CriticKind]:
    """A method that has no critic."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPolicyMethod:
    """What makes an on-policy method: how advantages are made, which critics it learns, and its loss.

    `advantages` is given the experience, the rewards of its tokens (N) and the settings; it returns columns (N), of
    which one is `advantage`. `per_token` says that these may differ within a completion, as an exact KL in the reward
    needs it. `loss` is `policy_loss` or adds to it; it may read every column.

    `learned` makes of the samples of an optimiser step what is learned from, and `count` is what the loss divides by.
    A method with a `multiplier` holds a cost under a budget: the experience has a column `cost`, and the estimator
    gives a `cost_advantage` too.
    """

    advantages: Callable[[Experience, Tensor, Any], dict[str, Tensor]]
    per_token: bool = True
    normalisation: Callable[[Any], Normalisation] = lambda settings: "token"
    loss: Callable[..., LossResult] = policy_loss
    critics: Callable[[Any], Mapping[str, CriticKind]] = no_critics
    learned: Callable[[Sequence[Sample], Any], Sequence[Any]] = every_sample
    count: Callable[[Sequence[Any]], float] = predicted_tokens
    multiplier: Callable[[Any], LagrangeMultiplier | None] = no_multiplier
