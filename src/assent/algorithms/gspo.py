"""Group sequence policy optimisation: GRPO with one ratio for a whole completion (Zheng et al. 2025, arXiv 2507.18071).

s_b = (pi(y_b) / pi_old(y_b))^(1 / T_b)                       the geometric mean of the ratios of its T_b tokens
L   = -(1/B) sum_b min(s_b A_b, clip(s_b, 1 - clip_range_low, 1 + clip_range_high) A_b)        A_b as in GRPO
"""

from __future__ import annotations

from functools import partial

from pydantic import Field

from assent.algorithms.grpo import RelativeSettings, relative_advantages
from assent.algorithms.on_policy.settings import ClippedSettings
from assent.algorithms.on_policy.update import OnPolicyMethod, clipped_sequences, policy_loss


class GSPOSettings(RelativeSettings, ClippedSettings):
    """Settings of GSPO; a mean over tokens moves far less than a token, hence the clip."""

    mini_batches: int = Field(default=4, ge=1)
    clip_range_low: float = Field(default=3e-4, gt=0, lt=1)
    clip_range_high: float = Field(default=4e-4, gt=0)


GSPO = OnPolicyMethod(
    advantages=relative_advantages,
    per_token=False,
    normalisation=lambda settings: "sequence",
    loss=partial(policy_loss, surrogate=partial(clipped_sequences, average=True)),
)
