"""Implicit language Q-learning from logged dialogues with rewards (Snell et al. 2022, arXiv 2206.11871).

for each step, on dialogues of a behaviour policy:
    L = L_Q + L_V + cql_coef L_CQL + awac_coef L_pi                                    (`losses/ilql.py`)
    target Q <- target Q + target_step (Q - target Q)                                  (the learner, after the step)
write with  log pi + beta (min target Q - V)                                           (`model/action_values.py`)

Q, V and the behaviour policy pi are heads on one trunk. A state is all that was said before a token; the one after a
turn's last token is that before the assistant's next turn. A turn's reward follows its last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from pydantic import Field

from assent.algorithms.epochs import Objective, OfflineMethod, TrainSettings, predicted_tokens
from assent.algorithms.fitting import Sized, leave_out_long
from assent.losses.ilql import ILQLShape, TokenValues, ilql_loss
from assent.ports.learning import LossResult, Need, Outputs
from assent.text.template import ChatTemplate, Encoded, joined_turns
from assent.types import RewardedDialogue


class ILQLSettings(TrainSettings):
    """Settings of ILQL; one item = one dialogue. `beta` is for writing alone, and saved with the values."""

    gamma: float = Field(default=0.99, gt=0, le=1)
    expectile: float = Field(default=0.8, gt=0, lt=1)
    cql_coef: float = Field(default=0.1, ge=0)
    awac_coef: float = Field(default=1.0, ge=0)
    awac_beta: float = Field(default=0.0, ge=0)
    target_step: float = Field(default=0.05, gt=0, le=1)
    beta: float = Field(default=4.0, ge=0)

    @property
    def shape(self) -> ILQLShape:
        """What the loss is made of."""
        return ILQLShape(
            gamma=self.gamma, expectile=self.expectile, cql_coef=self.cql_coef, awac_coef=self.awac_coef,
            awac_beta=self.awac_beta,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedDialogue:
    """A dialogue's tokens, and the reward after each of the assistant's; turns may stand in several sequences."""

    sequences: tuple[Encoded, ...]
    rewards: tuple[float, ...]


def encode_dialogues(
    dialogues: Sequence[RewardedDialogue], template: ChatTemplate, *, max_length: int
) -> Sized[EncodedDialogue]:
    """Tokens and rewards of the dialogues that fit in `max_length`."""
    turns = template.encode_each_turn([one.conversation for one in dialogues])
    encoded = [
        EncodedDialogue(
            sequences=joined_turns(said),
            rewards=tuple(
                reward if place == turn.predicted else 0.0
                for turn, reward in zip(said, one.rewards, strict=True)
                for place in range(1, turn.predicted + 1)
            ),
        )
        for one, said in zip(dialogues, turns, strict=True)
    ]
    longest = [max(map(len, one.sequences)) for one in encoded]
    return leave_out_long(encoded, longest, max_length=max_length, what="dialogues")


def _loss(
    outputs: Outputs, dialogues: Sequence[EncodedDialogue], step_tokens: float, *, settings: ILQLSettings
) -> LossResult:
    values = TokenValues(
        q_2N=torch.stack([outputs["q1"], outputs["q2"]]),
        q_logp_2N=torch.stack([outputs["q1_logp"], outputs["q2_logp"]]),
        target_q_N=outputs["target_q"],
        v_N=outputs["v"],
        logp_N=outputs["logp"],
    )
    reward_N = values.v_N.new_tensor([reward for one in dialogues for reward in one.rewards])
    lengths = [len(one.rewards) for one in dialogues]
    found = ilql_loss(values, reward_N, lengths, settings.shape, step_tokens=step_tokens)
    sums = {
        "loss": found.loss.item() * step_tokens,
        "q_loss": found.q.item(),
        "v_loss": found.v.item(),
        "cql_loss": found.cql.item(),
        "behaviour_loss": found.policy.item(),
        "q": values.target_q_N.sum().item(),
        "advantage": found.advantage.item(),
    }
    return LossResult(loss=found.loss, sums=sums, count=float(len(reward_N)))


def _objective(_: Sequence[EncodedDialogue], settings: ILQLSettings) -> Objective:
    return Objective(
        loss=partial(_loss, settings=settings), need=Need(action_values=True), count=predicted_tokens
    )  # fmt: skip


ILQL = OfflineMethod(
    encode=encode_dialogues,
    objective=_objective,
    equip=lambda policy, settings, seed: policy.learn_action_values(
        beta=settings.beta, target_step=settings.target_step, seed=seed
    ),
)
