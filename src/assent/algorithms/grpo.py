"""Group-relative policy optimisation: the group is the baseline (Shao et al. 2024, arXiv 2402.03300).

repeat: write G completions of each prompt, score them                    (`on_policy.task`)
        A_b = (r_b - mean of the group) / standard deviation of the group
        for each mini-batch: L = clipped policy loss (+ beta KL)

Dr. GRPO (Liu et al. 2025, arXiv 2503.20783): scale_by_std=false, loss_normalisation=constant
DAPO (Yu et al. 2025, arXiv 2503.14476): loss_normalisation=token, clip_range_high=0.28, refill_rollouts=4,
                                         overlong_tokens=16
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.settings import ClippedSettings, GroupBaselineSettings
from assent.algorithms.on_policy.update import OnPolicyMethod
from assent.losses.advantages import group_relative


class RelativeSettings(GroupBaselineSettings):
    """What methods share that learn from the place of a completion in its group."""

    scale_by_std: bool = True


class GRPOSettings(RelativeSettings, ClippedSettings):
    """Settings of GRPO, Dr. GRPO and DAPO."""

    loss_normalisation: Literal["sequence", "token", "constant"] = "sequence"


def relative_advantages(experience: Experience, reward_N: Tensor, settings: RelativeSettings) -> dict[str, Tensor]:
    """The place of each completion in its group, at all of its tokens."""
    reward_B = experience.totals(reward_N)
    advantage_B = group_relative(reward_B, experience.group_B, scale_by_std=settings.scale_by_std)
    return {"advantage": experience.at_tokens(advantage_B)}


GRPO = OnPolicyMethod(
    advantages=relative_advantages, per_token=False, normalisation=lambda settings: settings.loss_normalisation
)
