"""DPO on whole rankings, under the Plackett-Luce model (Rafailov et al. 2023, appendix A.3; DPO-PL in 2402.01878).

    L = -(1/R) sum over rankings  sum_i  beta h_(i) - log sum_{j >= i} e^(beta h_(j))     h_(1) of the best completion

A tie is every order of the tied completions, each as likely (`losses/preference.py`). A ranking of two is DPO's pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from pydantic import Field

from assent.algorithms.epochs import Objective, OfflineMethod, TrainSettings
from assent.algorithms.preference.log_ratios import completion_logps, log_ratios, outputs_now, with_reference
from assent.algorithms.reward import EncodedPreference, judgements_of, scored_pairs
from assent.evals.reward_quality import ScoredPairs
from assent.losses.preference import plackett_luce_loss
from assent.ports.learning import Learner, LossResult, Outputs


class DPOPLSettings(TrainSettings):
    """Settings of DPO on rankings; one item = one ranking."""

    beta: float = Field(default=0.1, gt=0)


def _loss(
    outputs: Outputs, rankings: Sequence[EncodedPreference], step_rankings: float, *, settings: DPOPLSettings
) -> LossResult:
    reward_B = settings.beta * log_ratios(outputs, rankings)
    result = plackett_luce_loss(reward_B, [one.ranks for one in rankings], step_rankings=step_rankings)
    logp_B = completion_logps(outputs, rankings, average=True).detach()
    best, worst = (
        torch.tensor([rank == end(one.ranks) for one in rankings for rank in one.ranks], device=logp_B.device)
        for end in (min, max)
    )
    sums = {
        "loss": result.loss.item() * step_rankings,
        "accuracy": result.correct.item(),
        "chosen_logp": logp_B[best].sum().item(),
        "rejected_logp": logp_B[worst].sum().item(),
    }
    counts = {
        "accuracy": result.pairs.item(), "chosen_logp": best.sum().item(), "rejected_logp": worst.sum().item()
    }  # fmt: skip
    return LossResult(loss=result.loss, sums=sums, count=len(rankings), counts=counts)


def _objective(_: Sequence[EncodedPreference], settings: DPOPLSettings) -> Objective:
    return Objective(loss=partial(_loss, settings=settings), count=lambda rankings: float(len(rankings)))


def _rewards(rankings: Sequence[EncodedPreference], learner: Learner, settings: DPOPLSettings) -> ScoredPairs:
    """The implicit reward of held-out rankings, by all their pairs."""
    reward_B = settings.beta * log_ratios(outputs_now(rankings, learner), rankings)
    parts = torch.split(reward_B, [len(one.ranks) for one in rankings])
    return scored_pairs(rankings, [part.tolist() for part in parts])


DPO_PL = OfflineMethod(encode=judgements_of, objective=_objective, reference=with_reference, rewards=_rewards)
