"""Training over epochs of a fixed set of items: SFT, reward model, DPO and pretraining are this with their own loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field

from assent.algorithms.schedule import Schedule, learning_rate
from assent.config import Settings
from assent.data.order import epoch_order
from assent.errors import ConfigError
from assent.metrics import Metrics, Tally
from assent.model.flat import FlatBatch
from assent.ports.learning import Learner, Loss, Need
from assent.seeds import derive


class TrainSettings(Settings):
    """What all training over epochs shares. One step = one optimiser update on `batch_size` items."""

    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Schedule = "cosine"
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    micro_batch_tokens: int = Field(default=8192, ge=1)
    max_length: int = Field(default=1024, ge=2)
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    dropout: Literal["off", "model"] = "off"
    evaluate_every: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """One piece of an optimiser step: tokens, what its loss needs to know, and the loss."""

    batch: FlatBatch
    need: Need
    loss: Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedBatch:
    """A micro-batch of an update that was skipped: its loss, its sequences, and how many tokens of each it predicts."""

    loss: float
    sequences: tuple[tuple[int, ...], ...]
    predicted: tuple[int, ...]

    @staticmethod
    def of(batch: FlatBatch, loss: float) -> SkippedBatch:
        """What a micro-batch held."""
        rows = torch.split(batch.ids_N, list(batch.lengths))
        return SkippedBatch(loss=loss, sequences=tuple(tuple(row.tolist()) for row in rows), predicted=batch.predicted)


Prepare = Callable[[Sequence[int], int], list[MicroBatch]]  # (items of the step, step) -> its micro-batches


class EpochTask:
    """Ticks = optimiser steps over shuffled epochs of `count` items.

    `held_out` gives the micro-batches of held-out items: after every `evaluate_every` steps and at the end their loss
    and whatever else the loss counts stand in the row, as `eval_loss`, `eval_accuracy`, ...
    """

    unit, ticks_per_unit = "steps", 1

    def __init__(
        self,
        learner: Learner,
        prepare: Prepare,
        *,
        count: int,
        settings: TrainSettings,
        seed: int,
        held_out: Callable[[], list[MicroBatch]] | None = None,
    ) -> None:
        if count < 1:
            raise ConfigError("there is nothing to train on: the data holds no usable item")
        if settings.evaluate_every and held_out is None:
            now = "Give some (--eval-data, in Python eval_data), or leave evaluate_every out."
            raise ConfigError("there is no held-out data to measure on", where="evaluate_every", now=now)
        self._learner, self._prepare, self._count = learner, prepare, count
        self._settings, self._seed, self._held_out = settings, seed, held_out
        self.skipped_batches: list[SkippedBatch] = []
        self._per_epoch = math.ceil(count / settings.batch_size)
        self.total = max(1, round(settings.epochs * self._per_epoch))

    def items(self, step: int) -> list[int]:
        """The items of a step: a pure function of seed and step."""
        epoch, place = divmod(step, self._per_epoch)
        size = self._settings.batch_size
        order = epoch_order(self._count, seed=derive(self._seed, "data"), epoch=epoch)
        return [int(item) for item in order[place * size : (place + 1) * size]]

    def tick(self, index: int) -> Metrics:
        """One optimiser step."""
        rate = learning_rate(
            index,
            peak=self._settings.learning_rate,
            total=self.total,
            warmup_share=self._settings.warmup_share,
            schedule=self._settings.schedule,
        )
        row = update(self._learner, self._prepare(self.items(index), index), rate, self.skipped_batches)
        row["epoch"] = (index + 1) / self._per_epoch
        every = self._settings.evaluate_every
        if self._held_out is not None and (index + 1 == self.total or (every and (index + 1) % every == 0)):
            row |= {f"eval_{name}": value for name, value in evaluated(self._learner, self._held_out()).items()}
        return row

    def state(self) -> dict[str, Any]:
        """The learner; the order of data and the schedule follow from seed and step."""
        return {"learner": self._learner.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""
        self._learner.restore(state["learner"])


def evaluated(learner: Learner, pieces: Sequence[MicroBatch]) -> Metrics:
    """The means that the losses of `pieces` count, without training."""
    tally = Tally()
    for piece in pieces:
        result = piece.loss(learner.score(piece.batch, piece.need))
        tally.add(result.sums, result.count)
    return tally.means()


def update(learner: Learner, pieces: Sequence[MicroBatch], rate: float, skipped_batches: list[SkippedBatch]) -> Metrics:
    """Accumulate the gradient of all pieces, step once, and give the row of metrics.

    The pieces of an update that was skipped are added to `skipped_batches`.
    """
    tally, losses = Tally(), []
    for piece in pieces:
        result = learner.forward_backward(piece.batch, piece.need, piece.loss)
        tally.add(result.sums, result.count)
        losses.append(result.loss.item())
    report = learner.step(rate)
    if report.skipped:
        skipped_batches.extend(SkippedBatch.of(piece.batch, loss) for piece, loss in zip(pieces, losses, strict=True))
    learner.publish()
    row = tally.means() | {"learning_rate": rate, "skipped_updates": float(report.skipped)}
    return row | ({} if report.skipped else {"gradient_norm": report.gradient_norm})
