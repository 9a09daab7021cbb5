"""The KL to the reference: where it stands, how it is estimated, and who sets its coefficient.

In the reward    r_t = -beta KL_t + [t is the last token] reward
In the loss      L   = ... + beta (1/N) sum KL_t

Legend: N tokens of a rollout, M of a micro-batch, B samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.settings import KLEstimator, OnPolicySettings
from assent.errors import ConfigError
from assent.losses.advantages import whiten
from assent.losses.kl import AdaptiveKL, kl_k1, kl_k2, kl_k3, kl_penalty, own_token_term
from assent.ports.learning import Need, Outputs

_USELESS = {  # see docs/algorithms.md, "KL"
    ("loss", "k1"): "its gradient has expectation zero",
    ("reward", "k2"): "held fixed there, it has nearly no gradient of the KL",
    ("reward", "k3"): "held fixed there, its gradient is that of KL(policy || reference) - KL(reference || policy), "
    "not that of the KL, and nearly vanishes while the two are close",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRewards:
    """The reward of every token, and what its advantage lacks because the penalty does not depend on the token."""

    reward_N: Tensor
    own_token_N: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KLShaping:
    """One penalty on straying from the reference."""

    place: Literal["reward", "loss"]
    estimator: KLEstimator
    top_k: int | None
    controller: AdaptiveKL

    @staticmethod
    def of(settings: OnPolicySettings) -> KLShaping:
        """As the settings say; raises ConfigError for an estimate without a gradient."""
        place, estimator = settings.kl_in, settings.kl_estimator
        if (place, estimator) in _USELESS:
            raise ConfigError(
                f"the {estimator} estimate does not belong in the {place}: {_USELESS[place, estimator]}",
                now='Use kl_estimator="exact" anywhere, "k1" in the reward, "k2" or "k3" in the loss.',
            )
        target, horizon = settings.adaptive_kl_target, settings.adaptive_kl_horizon
        controller = AdaptiveKL(coefficient=settings.kl_coef, target=target, horizon=horizon)
        return KLShaping(place=place, estimator=estimator, top_k=settings.kl_top_k, controller=controller)

    @property
    def coef(self) -> float:
        """The coefficient as it is now."""
        return self.controller.coefficient

    def with_coef(self, coef: float) -> KLShaping:
        """The same with another coefficient."""
        return replace(self, controller=replace(self.controller, coefficient=coef))

    def updated(self, kl: float, samples: int) -> KLShaping:
        """After `samples` samples whose mean KL was `kl` nats."""
        return replace(self, controller=self.controller.updated(kl, samples))

    def scoring(self, need: Need) -> Need:
        """What a rollout's KL is computed from."""
        exact = self.estimator == "exact"
        return replace(need, kl=exact, kl_top_k=self.top_k, reference_logp=not exact)

    def training(self, need: Need) -> Need:
        """What a KL in the loss is computed from."""
        return self.scoring(need) if self.place == "loss" and self.coef > 0 else need

    def observed(self, experience: Experience) -> Experience:
        """The experience with a KL of every token that is never negative."""
        if self.estimator == "exact":
            return experience
        return experience.with_columns({"kl": kl_k3(experience["logp"], experience["reference_logp"])})

    def token_rewards(self, reward_B: Sequence[float], experience: Experience, *, white: bool) -> TokenRewards:
        """The penalty on every token and the reward on the last one; `white` divides them by their spread."""
        coef = self.coef if self.place == "reward" else 0.0
        logp_N, reference_logp_N = experience["logp"], experience["reference_logp"]
        kl_N = kl_k1(logp_N, reference_logp_N) if self.estimator == "k1" else experience["kl"]
        last_B = torch.tensor(experience.lengths).cumsum(0) - 1
        reward_N = (-coef * kl_N).index_add(0, last_B, torch.tensor(reward_B, dtype=kl_N.dtype))
        if white:
            coef *= (reward_N.var(unbiased=False) + 1e-8).rsqrt().item()  # the own-token term is of the same unit
            reward_N = whiten(reward_N, torch.ones_like(reward_N, dtype=torch.bool), shift_mean=False)
        if self.estimator != "exact":
            return TokenRewards(reward_N=reward_N)
        own_N = own_token_term(kl_N, logp_N, reference_logp_N, coefficient=coef)
        return TokenRewards(reward_N=reward_N, own_token_N=own_N)

    def loss(self, outputs: Outputs, weight_M: Tensor, step_tokens: float) -> Tensor:
        """beta times the KL of a micro-batch, from what `training` asked for; 0 where the KL is in the reward."""
        logp_M = outputs["logp"]
        if "kl" not in outputs and "reference_logp" not in outputs:
            return logp_M.new_zeros(())
        estimate = kl_k3 if self.estimator == "k3" else kl_k2
        kl_M = outputs["kl"] if "kl" in outputs else estimate(logp_M, outputs["reference_logp"])
        return self.coef * kl_penalty(
            weight_M * kl_M, torch.ones_like(logp_M, dtype=torch.bool), step_tokens=step_tokens
        )
