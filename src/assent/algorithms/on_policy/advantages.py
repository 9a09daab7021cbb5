"""From token rewards to advantages (N tokens of a rollout), by whatever estimator the method has."""

from __future__ import annotations

import torch

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.kl_shaping import TokenRewards
from assent.algorithms.on_policy.settings import AdvantageSettings, OnPolicySettings
from assent.algorithms.on_policy.update import OnPolicyMethod
from assent.errors import RunError
from assent.losses.advantages import whiten
from assent.losses.lagrangian import LagrangeMultiplier, advantage_under_budget
from assent.losses.policy import sampler_weight


def with_advantages(
    experience: Experience, rewards: TokenRewards, method: OnPolicyMethod, settings: OnPolicySettings,
    multiplier: LagrangeMultiplier | None = None,
) -> Experience:  # fmt: skip
    """The experience with the columns of the method's estimator; its advantages are white if the settings say so.

    With a multiplier the advantage of the cost is taken from that of the reward. With `max_sampler_weight` advantages
    are weighted by what learner and sampler make of each token.

    Raises RunError where an advantage is not finite.
    """
    columns = method.advantages(experience, rewards.reward_N, settings)
    advantage_N = columns["advantage"]
    if rewards.own_token_N is not None:
        advantage_N = advantage_N + rewards.own_token_N
    if multiplier is not None:
        advantage_N = advantage_under_budget(advantage_N, columns["cost_advantage"], multiplier.value)
    if not bool(torch.isfinite(advantage_N).all()):
        raise RunError(
            "an advantage is not finite", now="Nothing was updated with it; look at the rewards and the value loss."
        )
    scaled = settings if isinstance(settings, AdvantageSettings) else None
    if scaled is not None and scaled.whiten_advantages:
        advantage_N = whiten(advantage_N, torch.ones_like(advantage_N, dtype=torch.bool))
    if scaled is not None and scaled.max_sampler_weight is not None:
        logp_N, sampler_logp_N = experience["logp"], experience["sampler_logp"]
        columns["sampler_weight"] = sampler_weight(logp_N, sampler_logp_N, cap=scaled.max_sampler_weight)
        advantage_N = advantage_N * columns["sampler_weight"]
    return experience.with_columns({**columns, "advantage": advantage_N})
