"""Supervised fine-tuning: imitate what the assistant said, and only that.

L = -(1/M) sum over assistant tokens  log pi(token | what came before)        M: assistant tokens of the step
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from assent.algorithms.epochs import EpochTask, MicroBatch, TrainSettings
from assent.algorithms.fitting import Sized, leave_out_long
from assent.data.order import token_budget_batches
from assent.losses.supervised import supervised_loss
from assent.model.flat import flatten
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


def sft_task(
    encoded: Sequence[Encoded],
    learner: Learner,
    *,
    settings: SFTSettings,
    seed: int,
    held_out: Sequence[Encoded] = (),
) -> EpochTask:
    """The training task; with `held_out`, rows carry `eval_loss` (mean negative log-probability per token)."""

    def prepare(items: Sequence[int], _: int) -> list[MicroBatch]:
        return supervised_pieces([encoded[item] for item in items], settings.micro_batch_tokens)

    unseen = partial(supervised_pieces, held_out, settings.micro_batch_tokens) if held_out else None
    return EpochTask(learner, prepare, count=len(encoded), settings=settings, seed=seed, held_out=unseen)


def supervised_pieces(chosen: Sequence[Encoded], max_tokens: int) -> list[MicroBatch]:
    """Micro-batches of one optimiser step, neighbours of equal length together."""
    ordered = sorted(chosen, key=len)
    step_tokens = float(sum(sum(one.assistant_mask[1:]) for one in ordered))
    pieces = []
    for part in token_budget_batches([len(one) for one in ordered], max_tokens):
        run = [ordered[place] for place in part]
        batch = flatten([one.ids for one in run], [one.assistant_mask for one in run])
        pieces.append(MicroBatch(batch=batch, need=Need(), loss=partial(_loss, step_tokens=max(step_tokens, 1.0))))
    return pieces


def _loss(outputs: Outputs, *, step_tokens: float) -> LossResult:
    assert outputs.logp_M is not None
    every_M = torch.ones_like(outputs.logp_M, dtype=torch.bool)
    result = supervised_loss(outputs.logp_M, every_M, step_tokens=step_tokens)
    return LossResult(
        loss=result.loss, sums={"loss": result.negative_logp.item()}, count=float(outputs.logp_M.shape[0])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationLoss:
    """The negative log-probability of what the assistant said in a conversation, in nats, and its tokens."""

    negative_logp: float
    tokens: int


def supervised_losses(learner: Learner, encoded: Sequence[Encoded], max_tokens: int) -> list[ConversationLoss]:
    """The loss of every conversation, without training. Summed over tokens: divide sums by sums."""
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
    found: dict[int, ConversationLoss] = {}
    for part in token_budget_batches([len(encoded[place]) for place in order], max_tokens):
        places = [order[position] for position in part]
        run = [encoded[place] for place in places]
        batch = flatten([one.ids for one in run], [one.assistant_mask for one in run])
        logp_M = learner.score(batch, Need()).logp_M
        assert logp_M is not None
        for place, logp in zip(places, torch.split(logp_M, list(batch.predicted)), strict=True):
            found[place] = ConversationLoss(negative_logp=-logp.double().sum().item(), tokens=len(logp))
    return [found[place] for place in range(len(encoded))]
