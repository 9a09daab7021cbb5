"""SimPO: pairs without a reference; the reward is the mean log-probability of a token (Meng et al. 2024, 2405.14734).

L = -(1/P) sum log s(beta a_chosen - beta a_rejected - gamma),   a = (1/|y|) log pi(y | x)
"""

from __future__ import annotations

from pydantic import Field

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.preference.log_ratios import completion_logps
from assent.algorithms.preference.pairs import PairMethod
from assent.losses.direct import Compared, DirectLoss
from assent.losses.reference_free import simpo_loss


class SimPOSettings(TrainSettings):
    """Settings of SimPO; one item = one pair."""

    beta: float = Field(default=2.0, gt=0)
    gamma: float = Field(default=1.0, ge=0)


def _loss(logp: Compared, settings: SimPOSettings, step_pairs: float) -> DirectLoss:
    return simpo_loss(logp, beta=settings.beta, gamma=settings.gamma, step_pairs=step_pairs)


SIMPO = PairMethod(
    value=lambda outputs, pairs, settings: completion_logps(outputs, pairs, average=True),
    loss=_loss,
    reward=lambda logp_B, settings: settings.beta * logp_B,
).offline(reference=False)
