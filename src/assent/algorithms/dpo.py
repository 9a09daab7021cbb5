"""Direct preference optimisation: the policy learns from pairs without a reward model (Rafailov et al. 2023).

    L = -(1/P) sum log s(beta (h_chosen - h_rejected)),   h = log pi(completion | prompt) - log ref(completion | prompt)

The reference is the policy before the first step, and its log-probabilities are computed once: no second model is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import Field

from assent.algorithms.epochs import Objective, OfflineMethod, TrainSettings
from assent.algorithms.preference.pairs import EncodedPair, encode_pairs, log_ratios, with_reference
from assent.evals.reward_quality import ScoredPairs
from assent.losses.direct import DirectForm, dpo_loss
from assent.ports.learning import LossResult, Outputs


class DPOSettings(TrainSettings):
    """Settings of DPO and IPO; one item = one pair."""

    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    form: Literal["sigmoid", "ipo"] = "sigmoid"


def _loss(outputs: Outputs, run: Sequence[EncodedPair], step_pairs: float, *, settings: DPOSettings) -> LossResult:
    form = DirectForm(settings.form)
    chosen_P, rejected_P = log_ratios(outputs, run, average=form is DirectForm.IPO)
    result = dpo_loss(
        chosen_P,
        rejected_P,
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        probability_P=chosen_P.new_tensor([pair.probability for pair in run]),
        form=form,
        step_pairs=step_pairs,
    )
    sums = {
        "loss": result.loss.item() * step_pairs,
        "accuracy": result.correct.item(),
        "margin": result.margin.item(),
        "chosen_reward": result.chosen_reward.item(),
        "rejected_reward": result.rejected_reward.item(),
    }
    return LossResult(loss=result.loss, sums=sums, count=len(run))


def implicit_rewards(before: Sequence[EncodedPair], after: Sequence[EncodedPair], *, beta: float) -> ScoredPairs:
    """The reward that training has put into the policy's weights: beta (log pi - log ref), summed over the tokens.

    `before` and `after` are the same pairs with their log-probabilities then and now (see `with_reference`).
    """

    def sums(pair: EncodedPair) -> list[float]:
        assert pair.reference_logp_M is not None
        sides = torch.split(pair.reference_logp_M.double(), [side.predicted for side in pair.sequences])
        return [float(logp_M.sum()) for logp_M in sides]

    changes = [
        [beta * (now - then) for now, then in zip(sums(two), sums(one), strict=True)]
        for one, two in zip(before, after, strict=True)
    ]
    return ScoredPairs(
        chosen=[chosen for chosen, _ in changes],
        rejected=[rejected for _, rejected in changes],
        probability=[pair.probability for pair in before],
        chosen_length=[pair.chosen.predicted for pair in before],
        rejected_length=[pair.rejected.predicted for pair in before],
        groups=[pair.group for pair in before],
    )


def _objective(pairs: Sequence[EncodedPair], settings: DPOSettings) -> Objective:
    return Objective(loss=partial(_loss, settings=settings), count=lambda pairs: float(len(pairs)))


DPO = OfflineMethod(
    encode=encode_pairs,
    objective=_objective,
    reference=with_reference,
    rewards=lambda before, after, settings: implicit_rewards(before, after, beta=settings.beta),
)
