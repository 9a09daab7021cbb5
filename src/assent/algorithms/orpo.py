"""ORPO: SFT on the better answers with an odds ratio against the worse, in one stage (Hong et al. 2024, 2403.07691).

    L = -(1/P) sum a_chosen + coef log s(log odds(a_chosen) - log odds(a_rejected)),   a = (1/|y|) log pi(y | x)

odds(a) = e^a / (1 - e^a), of the geometric mean over the tokens of an answer.
"""

from __future__ import annotations

from pydantic import Field

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.preference.log_ratios import completion_logps
from assent.algorithms.preference.pairs import PairMethod
from assent.losses.direct import Compared, DirectLoss
from assent.losses.reference_free import log_odds, odds_ratio_loss


class ORPOSettings(TrainSettings):
    """Settings of ORPO; one item = one pair. `odds_ratio_coef` is the paper's lambda."""

    odds_ratio_coef: float = Field(default=0.1, gt=0)


def _loss(logp: Compared, settings: ORPOSettings, step_pairs: float) -> DirectLoss:
    return odds_ratio_loss(logp, coef=settings.odds_ratio_coef, step_pairs=step_pairs)


ORPO = PairMethod(
    value=lambda outputs, pairs, settings: completion_logps(outputs, pairs, average=True),
    loss=_loss,
    reward=lambda logp_B, settings: log_odds(logp_B),
    sft_coef=lambda settings: 1.0,
).offline(reference=False)
