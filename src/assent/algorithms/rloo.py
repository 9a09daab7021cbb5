"""REINFORCE leave-one-out: a completion is one action (Ahmadian et al. 2024, arXiv 2402.14740; Kool et al. 2019).

R_b = r_b - beta log(pi(y_b) / ref(y_b))
A_b = R_b - mean of the other completions of its prompt
L   = -(1/B) sum_b min(rho_b A_b, clip(rho_b) A_b)            rho_b = pi(y_b) / pi_old(y_b); the gradient is REINFORCE's
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.settings import ClippedSettings, GroupBaselineSettings, KLEstimator
from assent.algorithms.on_policy.update import OnPolicyMethod, clipped_sequences, policy_loss
from assent.losses.advantages import leave_one_out


class RLOOSettings(GroupBaselineSettings, ClippedSettings):
    """Settings of RLOO; as in the paper the KL is in the reward, where k1 has its gradient."""

    kl_in: Literal["reward", "loss"] = "reward"
    kl_estimator: KLEstimator = "k1"


def _advantages(experience: Experience, reward_N: Tensor, settings: RLOOSettings) -> dict[str, Tensor]:
    advantage_B = leave_one_out(experience.totals(reward_N), experience.group_B)
    return {"advantage": experience.at_tokens(advantage_B)}


RLOO = OnPolicyMethod(
    advantages=_advantages,
    per_token=False,
    normalisation=lambda settings: "sum",
    loss=partial(policy_loss, surrogate=partial(clipped_sequences, average=False)),
)
