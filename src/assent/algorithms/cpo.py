"""Contrastive preference optimisation: DPO with a uniform reference, and SFT on the better answers (Xu et al. 2024).

    L = -(1/P) sum log s(beta (log pi(y_chosen | x) - log pi(y_rejected | x))) + sft_coef (1/|y|) log pi(y_chosen | x)

arXiv 2401.08417. The SFT term is a mean over tokens, as in the authors' code; in the paper it is a sum.
"""

from __future__ import annotations

from pydantic import Field

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.preference.log_ratios import completion_logps
from assent.algorithms.preference.pairs import PairMethod
from assent.losses.direct import Compared, DirectLoss, DirectShape, dpo_loss


class CPOSettings(TrainSettings):
    """Settings of CPO; one item = one pair."""

    beta: float = Field(default=0.1, gt=0)
    sft_coef: float = Field(default=1.0, ge=0)


def _loss(logp: Compared, settings: CPOSettings, step_pairs: float) -> DirectLoss:
    return dpo_loss(logp, DirectShape(beta=settings.beta), step_pairs=step_pairs)


CPO = PairMethod(
    value=lambda outputs, pairs, settings: completion_logps(outputs, pairs),
    loss=_loss,
    reward=lambda logp_B, settings: settings.beta * logp_B,
    sft_coef=lambda settings: settings.sft_coef,
).offline(reference=False)
