"""Online DPO: DPO on pairs that the policy has just written (Guo et al. 2024, arXiv 2402.04792).

repeat: write G completions of each prompt, score them                    (`on_policy.task`)
        of each group, the best is chosen and the worst rejected; equal ones are no pair
        for each mini-batch: L = DPO's loss of the pairs (- c_e entropy, + beta_kl KL, per completion)

The reference is the policy before the first iteration. DPO holds the policy near it by itself, so `kl_coef` is 0 unless
set. A judge that compares is a reward too (`evals/judges.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from assent.algorithms.dpo import DPO_PAIRS, DirectSettings
from assent.algorithms.on_policy.experience import Experience, Sample, column
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.settings import GroupSettings
from assent.algorithms.on_policy.update import OnPolicyMethod, regularised
from assent.losses.kl import kl_k3
from assent.ports.learning import LossResult, Outputs
from assent.text.template import Encoded


class OnlineDPOSettings(DirectSettings, GroupSettings):
    """Settings of online DPO; of more than two completions of a prompt, the best and the worst are the pair."""

    batch_size: int = Field(default=64, ge=1)
    samples_per_prompt: int = Field(default=2, ge=2)
    kl_coef: float = Field(default=0.0, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledPair:
    """The best and the worst completion of a group."""

    chosen: Sample
    rejected: Sample
    probability: float = 1.0

    @property
    def sequences(self) -> tuple[Encoded, Encoded]:
        """Both sides: they stay in one micro-batch."""
        return self.chosen.tokens, self.rejected.tokens

    @property
    def reference_logp_M(self) -> Tensor:
        """The reference's log-probabilities of both."""
        return torch.cat([self.chosen.columns["reference_logp"], self.rejected.columns["reference_logp"]])


def _best_and_worst(experience: Experience, reward_N: Tensor, settings: OnlineDPOSettings) -> dict[str, Tensor]:
    """1 at the tokens of the best of a group, -1 at those of the worst, 0 elsewhere; of equal ones the first."""
    reward_B = experience.totals(reward_N)
    side_B, rewards = torch.zeros_like(reward_B), reward_B.tolist()
    for group in experience.groups:
        best, worst = (pick(group, key=rewards.__getitem__) for pick in (max, min))
        if rewards[best] > rewards[worst]:
            side_B[best], side_B[worst] = 1.0, -1.0
    return {"advantage": experience.at_tokens(side_B)}


def _pairs(samples: Sequence[Sample], settings: OnlineDPOSettings) -> list[SampledPair]:
    best, worst = (
        {one.group: one for one in samples if sign * one.columns["advantage"][0] > 0} for sign in (1.0, -1.0)
    )
    return [SampledPair(chosen=chosen, rejected=worst[group]) for group, chosen in best.items()]


def _loss(
    outputs: Outputs, pairs: Sequence[SampledPair], step_pairs: float, *, settings: OnlineDPOSettings, kl: KLShaping
) -> LossResult:
    found = DPO_PAIRS.step_loss(outputs, pairs, step_pairs, settings=settings)
    samples, logp_M = [side for pair in pairs for side in (pair.chosen, pair.rejected)], outputs["logp"]
    every_M = torch.ones_like(logp_M)
    loss = regularised(found.loss, outputs, every_M, 2 * step_pairs, settings=settings, kl=kl)
    moved = kl_k3(column(samples, "logp", logp_M), logp_M.detach()).sum().item()
    return LossResult(
        loss=loss, sums={**found.sums, "approx_kl": moved}, count=found.count, counts={"approx_kl": float(len(logp_M))}
    )


ONLINE_DPO = OnPolicyMethod(
    advantages=_best_and_worst, per_token=False, loss=_loss, learned=_pairs, count=lambda pairs: float(len(pairs))
)
