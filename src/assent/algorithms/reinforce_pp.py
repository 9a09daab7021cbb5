"""REINFORCE++: PPO's clip and penalty without a critic, white over all tokens (Hu et al. 2025, arXiv 2501.03262).

A_t = r_t + r_t+1 + ...  (- mean of the group's completions, with baseline=group)
A   = (A - mean) / standard deviation, over all tokens of the rollout        (`whiten_advantages`)
L   = clipped policy loss
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.settings import ClippedSettings
from assent.algorithms.on_policy.update import OnPolicyMethod
from assent.losses.advantages import group_mean, rewards_to_go


class ReinforcePPSettings(ClippedSettings):
    """Settings of REINFORCE++ and, with `baseline="group"`, of its variant for several completions of each prompt."""

    epochs: int = Field(default=1, ge=1)
    baseline: Literal["none", "group"] = "none"

    @model_validator(mode="after")
    def _a_group_has_two(self) -> Self:
        if self.baseline == "group" and self.samples_per_prompt < 2:
            raise ValueError(
                'baseline="group" compares completions of one prompt; set samples_per_prompt=8, for example'
            )
        return self


def _advantages(experience: Experience, reward_N: Tensor, settings: ReinforcePPSettings) -> dict[str, Tensor]:
    advantage_N = rewards_to_go(reward_N, experience.lengths)
    if settings.baseline == "group":
        baseline_B = group_mean(experience.totals(reward_N), experience.group_B)
        advantage_N = advantage_N - experience.at_tokens(baseline_B)
    return {"advantage": advantage_N}


REINFORCE_PP = OnPolicyMethod(advantages=_advantages)
