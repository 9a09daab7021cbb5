"""RAFT: imitate the best of what was written (Dong et al. 2023, arXiv 2304.06767); also called rejection sampling.

repeat: write G completions of each prompt, score them                    (`on_policy.task`)
        keep the `keep` best of each group, as far as their reward is at least `min_reward`
        for each mini-batch: L = -(1/M) sum over the tokens of what was kept  log pi(token)

One iteration is rejection sampling as for Llama 2; several are expert iteration (Anthony et al. 2017; ReST, Gulcehre et
al. 2023), whose next answers come from the policy that has learned from the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from assent.algorithms.on_policy.experience import Experience, Sample, column, weights
from assent.algorithms.on_policy.settings import GroupSettings
from assent.algorithms.on_policy.update import OnPolicyMethod, policy_loss
from assent.losses.policy import PolicyLoss
from assent.losses.supervised import supervised_loss


class RAFTSettings(GroupSettings):
    """Settings of RAFT; `min_reward` is in the unit that training maximises, less the KL penalty if that is in it."""

    keep: int = Field(default=1, ge=1)
    min_reward: float | None = None
    kl_coef: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _there_are_so_many(self) -> Self:
        if self.keep > self.samples_per_prompt:
            raise ValueError(f"keep={self.keep} of samples_per_prompt={self.samples_per_prompt} completions")
        return self


def _kept(experience: Experience, reward_N: Tensor, settings: RAFTSettings) -> dict[str, Tensor]:
    """1 at the tokens of what is kept, 0 elsewhere; of equal completions the first are kept."""
    reward_B = experience.totals(reward_N)
    kept_B, rewards = torch.zeros_like(reward_B), reward_B.tolist()
    for group in experience.groups:
        kept_B[sorted(group, key=rewards.__getitem__, reverse=True)[: settings.keep]] = 1.0
    if settings.min_reward is not None:
        kept_B[reward_B < settings.min_reward] = 0.0
    return {"advantage": experience.at_tokens(kept_B)}


def _imitation(logp_M: Tensor, samples: Sequence[Sample], step_tokens: float, settings: RAFTSettings) -> PolicyLoss:
    ratio_M = (logp_M - column(samples, "logp", logp_M)).detach().exp()
    imitated = supervised_loss(
        weights(samples, logp_M) * logp_M, torch.ones_like(logp_M).bool(), step_tokens=step_tokens
    )
    return PolicyLoss(loss=imitated.loss, clipped=torch.zeros(()), ratio=ratio_M.sum())


RAFT = OnPolicyMethod(
    advantages=_kept,
    per_token=False,
    loss=partial(policy_loss, surrogate=_imitation),
    learned=lambda samples, settings: [one for one in samples if one.columns["advantage"][0] > 0],
)
