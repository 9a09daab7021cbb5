"""Supervised fine-tuning: imitate what the assistant said, and only that.

L = -(1/M) sum over assistant tokens  log pi(token | what came before)        M: assistant tokens of the step
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from assent.algorithms.epochs import Objective, OfflineMethod, TrainSettings, predicted_tokens
from assent.algorithms.fitting import Sized, leave_out_long
from assent.losses.supervised import supervised_loss
from assent.ports.learning import Learner, LossResult, Need, Outputs
from assent.text.template import ChatTemplate, Encoded
from assent.types import Demonstration


class SFTSettings(TrainSettings):
    """Settings of supervised fine-tuning; one item = one conversation, or one turn where turns are learned apart."""


def encode_demonstrations(
    demonstrations: Sequence[Demonstration], template: ChatTemplate, *, max_length: int
) -> Sized[Encoded]:
    """Tokens and masks of the conversations that fit in `max_length`.

    A conversation whose turns cannot share one sequence (see `ChatTemplate.encode_turns`) gives several.
    """
    turns = template.encode_turns([demonstration.conversation for demonstration in demonstrations])
    encoded = [example for examples in turns for example in examples]
    return leave_out_long(encoded, [len(one) for one in encoded], max_length=max_length, what="conversations")


def _loss(outputs: Outputs, _: Sequence[Encoded], step_tokens: float) -> LossResult:
    logp_M = outputs["logp"]
    result = supervised_loss(logp_M, torch.ones_like(logp_M, dtype=torch.bool), step_tokens=step_tokens)
    return LossResult(loss=result.loss, sums={"loss": result.negative_logp.item()}, count=float(len(logp_M)))


SUPERVISED = Objective(loss=_loss, count=predicted_tokens)
SFT = OfflineMethod(encode=encode_demonstrations, objective=lambda examples, settings: SUPERVISED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationLoss:
    """The negative log-probability of what the assistant said in a conversation, in nats, and its tokens."""

    negative_logp: float
    tokens: int


def supervised_losses(learner: Learner, encoded: Sequence[Encoded]) -> list[ConversationLoss]:
    """The loss of every conversation, without training. Summed over tokens: divide sums by sums."""
    logps = [outputs["logp"] for outputs in learner.score(encoded, Need())]
    return [ConversationLoss(negative_logp=-logp_M.double().sum().item(), tokens=len(logp_M)) for logp_M in logps]
