"""REINFORCE with a mean baseline (Williams 1992).

A_t = r_t + r_t+1 + ... - b        b: the mean over the rollout of what a whole completion is rewarded with
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.settings import ClippedSettings
from assent.algorithms.on_policy.update import OnPolicyMethod
from assent.losses.advantages import rewards_to_go


class ReinforceSettings(ClippedSettings):
    """One update for each rollout, so the policy that learns is the one that wrote; with more, the clip bounds them."""

    epochs: int = Field(default=1, ge=1)
    mini_batches: int = Field(default=1, ge=1)
    whiten_advantages: bool = False


def _advantages(experience: Experience, reward_N: Tensor, settings: ReinforceSettings) -> dict[str, Tensor]:
    baseline = experience.totals(reward_N).mean()
    return {"advantage": rewards_to_go(reward_N, experience.lengths) - baseline}


REINFORCE = OnPolicyMethod(advantages=_advantages)
