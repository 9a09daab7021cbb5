"""Proximal policy optimisation from a reward on whole completions (Schulman et al. 2017; Stiennon et al. 2020).

repeat: write completions with the policy, score them                     (`on_policy.task`)
        r_t = -beta KL_t + [t is the last token] reward                   (`on_policy.kl_shaping`)
        A, R = GAE(r, V)
        for some epochs, for each mini-batch:
            L = clipped policy loss + c_v clipped value loss - c_e entropy (+ beta KL, if the KL is in the loss)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from pydantic import Field
from torch import Tensor

from assent.algorithms.on_policy.experience import Experience, Sample, column
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.settings import ClippedSettings
from assent.algorithms.on_policy.update import CriticKind, OnPolicyMethod, policy_loss
from assent.losses.advantages import gae
from assent.losses.policy import clipped_value_loss
from assent.ports.learning import LossResult, Outputs


class PPOSettings(ClippedSettings):
    """Settings of PPO. One iteration = one rollout of `batch_size` prompts and `epochs` x `mini_batches` updates."""

    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    value_coef: float = Field(default=0.5, ge=0)
    clip_range_value: float = Field(default=0.2, gt=0)
    critic: CriticKind = "separate"


def estimated(
    experience: Experience, reward_N: Tensor, value_N: Tensor, settings: PPOSettings
) -> tuple[Tensor, Tensor]:
    """(advantage_N, return_N) of rewards and their critic's values, by GAE."""
    return gae(reward_N, value_N, experience.lengths, gamma=settings.gamma, gae_lambda=settings.gae_lambda)


def _advantages(experience: Experience, reward_N: Tensor, settings: PPOSettings) -> dict[str, Tensor]:
    advantage_N, return_N = estimated(experience, reward_N, experience["value"], settings)
    return {"advantage": advantage_N, "return": return_N}


def actor_critic_loss(
    outputs: Outputs, samples: Sequence[Sample], step_tokens: float, *,
    settings: PPOSettings, kl: KLShaping, returns: Mapping[str, str] = MappingProxyType({"value": "return"}),
) -> LossResult:  # fmt: skip
    """The loss of the policy and of its critics; `returns` names by critic the column that it learns."""
    policy = policy_loss(outputs, samples, step_tokens, settings=settings, kl=kl)
    loss, sums = policy.loss, dict(policy.sums)
    for critic, target in returns.items():
        value_M = outputs[critic]
        value = clipped_value_loss(
            value_M, column(samples, critic, value_M), column(samples, target, value_M),
            torch.ones_like(value_M, dtype=torch.bool), clip=settings.clip_range_value, step_tokens=step_tokens,
        )  # fmt: skip
        loss = loss + settings.value_coef * value
        sums[f"{critic}_loss"] = value.item() * step_tokens
    return LossResult(loss=loss, sums=sums, count=policy.count)


def _critics(settings: PPOSettings) -> Mapping[str, CriticKind]:
    return {"value": settings.critic}


PPO = OnPolicyMethod(advantages=_advantages, loss=actor_critic_loss, critics=_critics)
