"""Direct preference optimisation: the policy learns from pairs without a reward model (Rafailov et al. 2023).

    L = -(1/P) sum log s(beta (h_chosen - h_rejected)),   h = log pi(completion | prompt) - log ref(completion | prompt)

and its forms (`losses/direct.py`). With `sft_coef` it is RPO (Pang et al. 2024): SFT on the better answers is added.
The reference is the policy before the first step, and its log-probabilities are computed once: no second model is held.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.preference.log_ratios import log_ratios
from assent.algorithms.preference.pairs import PairMethod
from assent.config import Settings
from assent.losses.direct import Compared, DirectForm, DirectLoss, DirectShape, dpo_loss


class DirectSettings(Settings):
    """The loss of a pair in all its forms. `length_normalised` None: only IPO's h is a mean."""

    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    form: Literal["sigmoid", "ipo", "hinge", "robust", "exponential", "nca"] = "sigmoid"
    length_normalised: bool | None = None
    sft_coef: float = Field(default=0.0, ge=0)

    @property
    def average(self) -> bool:
        """Whether h is a mean over tokens: IPO's one target cannot fit the sums of very different lengths."""
        return self.form == "ipo" if self.length_normalised is None else self.length_normalised


class DPOSettings(DirectSettings, TrainSettings):
    """Settings of DPO; one item = one pair."""


def _loss(ratio: Compared, settings: DirectSettings, step_pairs: float) -> DirectLoss:
    form, smoothing = DirectForm(settings.form), settings.label_smoothing
    shape = DirectShape(beta=settings.beta, form=form, label_smoothing=smoothing)
    return dpo_loss(ratio, shape, step_pairs=step_pairs)


DPO_PAIRS = PairMethod(
    value=lambda outputs, pairs, settings: log_ratios(outputs, pairs, average=settings.average),
    loss=_loss,
    reward=lambda ratio_B, settings: settings.beta * ratio_B,
    sft_coef=lambda settings: settings.sft_coef,
)
DPO = DPO_PAIRS.offline(reference=True)
