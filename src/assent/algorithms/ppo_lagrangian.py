"""PPO-Lagrangian: most reward under a budget of cost (Ray et al. 2019; Safe RLHF, Dai et al. 2024, arXiv 2310.12773).

max over pi, min over lambda >= 0    E[r] - beta KL - lambda (E[c] - cost_budget)

repeat: write completions with the policy, score rewards and costs        (`on_policy.task`)
        log lambda <- log lambda + multiplier_learning_rate lambda (mean c - cost_budget)
        A_r, R = GAE(r, V) and A_c, C = GAE(c, V_c)                       each with a critic of its own
        A = (A_r - lambda A_c) / (1 + lambda)                             (`losses/lagrangian.py`)
        for some epochs, for each mini-batch: PPO's loss with A, and the value losses of both critics

A cost model is a reward model trained on labels of harm: higher is worse. The KL stands in the reward, so that it is
weighed as the reward is, and the policy that is found solves the problem above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.update import CriticKind, OnPolicyMethod
from assent.algorithms.ppo import PPOSettings, actor_critic_loss, estimated
from assent.losses.lagrangian import LagrangeMultiplier


class PPOLagrangianSettings(PPOSettings):
    """Settings of PPO-Lagrangian; the budget is in the cost's own unit, the multiplier in reward for a unit of cost."""

    kl_in: Literal["reward"] = "reward"
    cost_budget: float = 0.0
    multiplier: float = Field(default=1.0, gt=0)
    multiplier_learning_rate: float = Field(default=0.1, gt=0)


def _advantages(experience: Experience, reward_N: Tensor, settings: PPOLagrangianSettings) -> dict[str, Tensor]:
    advantage_N, return_N = estimated(experience, reward_N, experience["value"], settings)
    cost_advantage_N, cost_return_N = estimated(experience, experience["cost"], experience["cost_value"], settings)
    return {
        "advantage": advantage_N, "return": return_N, "cost_advantage": cost_advantage_N, "cost_return": cost_return_N
    }  # fmt: skip


def _critics(settings: PPOLagrangianSettings) -> Mapping[str, CriticKind]:
    return {"value": settings.critic, "cost_value": settings.critic}


def _multiplier(settings: PPOLagrangianSettings) -> LagrangeMultiplier:
    return LagrangeMultiplier(
        log_value=math.log(settings.multiplier), budget=settings.cost_budget,
        learning_rate=settings.multiplier_learning_rate,
    )  # fmt: skip


PPO_LAGRANGIAN = OnPolicyMethod(
    advantages=_advantages,
    loss=partial(actor_critic_loss, returns={"value": "return", "cost_value": "cost_return"}),
    critics=_critics,
    multiplier=_multiplier,
)
