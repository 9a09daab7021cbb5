"""Direct preference optimisation: the policy learns from pairs without a reward model (Rafailov et al. 2023).

    L = -(1/P) sum log s(beta (h_chosen - h_rejected)),   h = log pi(completion | prompt) - log ref(completion | prompt)

The reference is the policy before the first step, and its log-probabilities are computed once: no second model is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from assent.algorithms.epochs import EpochTask, MicroBatch, TrainSettings
from assent.algorithms.fitting import Sized, leave_out_long
from assent.data.order import token_budget_batches
from assent.losses.direct import DirectForm, dpo_loss, sequence_log_ratio
from assent.model.flat import FlatBatch, flatten
from assent.ports.learning import Learner, LossResult, Need, Outputs
from assent.text.template import ChatTemplate, Encoded
from assent.types import Comparison


class DPOSettings(TrainSettings):
    """Settings of DPO and IPO; one item = one pair."""

    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    form: Literal["sigmoid", "ipo"] = "sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPair:
    """Tokens of both completions after their prompt, P(chosen is better), and the judgement the pair is part of."""

    chosen: Encoded
    rejected: Encoded
    probability: float
    group: Hashable

    def __len__(self) -> int:
        return len(self.chosen) + len(self.rejected)


def encode_pairs(comparisons: Sequence[Comparison], template: ChatTemplate, *, max_length: int) -> Sized[EncodedPair]:
    """Encode comparisons; a pair with an over-long side is left out."""
    flat = template.encode_completions([(c.prompt, side) for c in comparisons for side in (c.chosen, c.rejected)])
    pairs = [
        EncodedPair(
            chosen=flat[2 * index],
            rejected=flat[2 * index + 1],
            probability=comparison.probability,
            group=(comparison.group, comparison.prompt) if comparison.group else index,
        )
        for index, comparison in enumerate(comparisons)
    ]
    longest = [max(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    return leave_out_long(pairs, longest, max_length=max_length, what="pairs")


def reference_logps(
    pairs: Sequence[EncodedPair], learner: Learner, *, max_tokens: int, progress: Callable[[int], None]
) -> list[Tensor]:
    """Log-probabilities of every pair's completion tokens (chosen, then rejected) under the policy as it is now.

    A completion that stands in several pairs is read once; `progress` counts pairs as their completions are read.
    """
    sides = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    uses = Counter(sides)
    different = list(uses)
    kept: dict[Encoded, Tensor] = {}
    read = 0
    for part in token_budget_batches([len(side) for side in different], max_tokens):
        chosen = [different[place] for place in part]
        batch = flatten([side.ids for side in chosen], [side.assistant_mask for side in chosen])
        logp_M = learner.score(batch, Need()).logp_M
        assert logp_M is not None
        kept |= zip(chosen, torch.split(logp_M.cpu(), list(batch.predicted)), strict=True)
        before, read = read // 2, read + sum(uses[side] for side in chosen)
        progress(read // 2 - before)
    return [torch.cat([kept[pair.chosen], kept[pair.rejected]]) for pair in pairs]


def _flat(run: Sequence[EncodedPair]) -> FlatBatch:
    sides = [side for pair in run for side in (pair.chosen, pair.rejected)]
    return flatten([side.ids for side in sides], [side.assistant_mask for side in sides])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferredPairs:
    """Pairs with the reference's log-probabilities of their completions, from `reference_logps`."""

    pairs: Sequence[EncodedPair]
    references: Sequence[Tensor]


def dpo_task(
    train: ReferredPairs,
    learner: Learner,
    *,
    settings: DPOSettings,
    seed: int,
    held_out: ReferredPairs | None = None,
) -> EpochTask:
    """The training task; with `held_out`, rows carry `eval_loss`, `eval_accuracy` and `eval_margin`."""

    def pieces_of(source: ReferredPairs, items: Sequence[int]) -> list[MicroBatch]:
        pairs, references, pieces = source.pairs, source.references, []
        for part in token_budget_batches([len(pairs[item]) for item in items], settings.micro_batch_tokens):
            chosen = [items[place] for place in part]
            run = [pairs[item] for item in chosen]
            loss = partial(
                _loss, run=run, reference_M=torch.cat([references[item] for item in chosen]),
                settings=settings, step_pairs=len(items),
            )  # fmt: skip
            batch = _flat(run)
            pieces.append(MicroBatch(batch=batch, need=Need(), loss=partial(loss, predicted=batch.predicted)))
        return pieces

    def prepare(items: Sequence[int], _: int) -> list[MicroBatch]:
        return pieces_of(train, items)

    unseen = partial(pieces_of, held_out, range(len(held_out.pairs))) if held_out is not None else None
    return EpochTask(learner, prepare, count=len(train.pairs), settings=settings, seed=seed, held_out=unseen)


def _loss(
    outputs: Outputs, *, run: Sequence[EncodedPair], reference_M: Tensor, settings: DPOSettings, step_pairs: int,
    predicted: tuple[int, ...],
) -> LossResult:  # fmt: skip
    assert outputs.logp_M is not None
    form = DirectForm(settings.form)
    every_M = torch.ones_like(outputs.logp_M, dtype=torch.bool)
    ratio_B = sequence_log_ratio(
        outputs.logp_M, reference_M.to(outputs.logp_M.device), every_M, predicted, average=form is DirectForm.IPO
    )
    result = dpo_loss(
        ratio_B[0::2],
        ratio_B[1::2],
        beta=settings.beta,
        label_smoothing=settings.label_smoothing,
        probability_P=ratio_B.new_tensor([pair.probability for pair in run]),
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
