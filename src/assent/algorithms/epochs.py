"""Training over epochs of a fixed set of items: SFT, reward model, DPO and pretraining are this with their own loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from assent.algorithms.estimate import Estimate, estimate_updates, tokens_of
from assent.algorithms.fitting import Sized
from assent.algorithms.schedule import OptimizerSettings
from assent.data.order import epoch_order
from assent.errors import ConfigError
from assent.evals.reward_quality import ScoredLabels, ScoredPairs
from assent.interrupts import StopRequest
from assent.metrics import Metrics, Stopwatch, Tally
from assent.model.roles import LanguageRole
from assent.ports.learning import Example, Learner, Loss, LossResult, Need, Outputs, SkippedBatch
from assent.ports.sampling import Progress, silent
from assent.seeds import derive


class TrainSettings(OptimizerSettings):
    """What all training over epochs shares. One step = one optimiser update on `batch_size` items."""

    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=16, ge=1)
    max_length: int = Field(default=1024, ge=2)
    dropout: Literal["off", "model"] = "off"
    evaluate_every: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised: a loss, what it needs, and the count of examples that it divides by.

    A loss that depends on something of the whole step is given it as its fourth argument: what `of_step` finds out
    from all examples of the step, before the step is taken.
    """

    loss: Callable[..., LossResult]
    need: Need = field(default_factory=Need)
    count: Callable[[Sequence[Any]], float]
    of_step: Callable[[Learner, Sequence[Any]], Any] | None = None

    def step_loss(self, learner: Learner, examples: Sequence[Any]) -> Loss:
        """The loss of a step with these examples."""
        if self.of_step is None:
            return self.loss
        found = self.of_step(learner, examples)
        return lambda outputs, run, count: self.loss(outputs, run, count, found)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineMethod:
    """What makes a method that learns from a fixed set of examples: how they are encoded, and what is minimised.

    `encode(examples, template, max_length=...)` leaves out what is too long, `objective(encoded, settings)` is the
    loss. `reference(encoded, learner, progress=...)` adds what the model makes of them before training.
    `rewards(encoded, learner, settings)` gives held-out examples the reward that training has put into the weights.
    `equip(policy, settings, seed)` gives the policy what it learns beside its network.
    """

    encode: Callable[..., Sized[Any]]
    objective: Callable[[Sequence[Any], Any], Objective]
    reference: Callable[..., Sequence[Any]] | None = None
    rewards: Callable[[Sequence[Any], Learner, Any], ScoredPairs | ScoredLabels] | None = None
    equip: Callable[[LanguageRole, Any, int], None] | None = None


def predicted_tokens(examples: Sequence[Example]) -> float:
    """Tokens that the examples predict, one at least."""
    return float(max(1, sum(sequence.predicted for one in examples for sequence in one.sequences)))


class EpochTask:
    """Ticks = optimiser steps over shuffled epochs of examples.

    Before the first step and after every `evaluate_every` steps, and in any case at the end, the loss of the `held_out`
    examples and whatever else the loss tallies stand in the row, as `eval_loss`, `eval_accuracy`, ...
    """

    unit = "steps"

    def __init__(
        self,
        learner: Learner,
        objective: Objective,
        examples: Sequence[Example],
        settings: TrainSettings,
        *,
        seed: int,
        held_out: Sequence[Example] = (),
    ) -> None:
        if not examples:
            raise ConfigError("there is nothing to train on: the data holds no usable item")
        if settings.evaluate_every and not held_out:
            now = "Give some (--eval-data, in Python eval_data), or leave evaluate_every out."
            raise ConfigError("there is no held-out data to measure on", where="evaluate_every", now=now)
        self._learner, self._objective, self._examples = learner, objective, examples
        self._settings, self._seed, self._held_out = settings, seed, held_out
        self.skipped_batches: list[SkippedBatch] = []
        self.save, self.load = learner.save, learner.load  # data and learning rate follow from seed and step
        self._per_epoch = math.ceil(len(examples) / settings.batch_size)
        self.total = max(1, round(settings.epochs * self._per_epoch))

    def items(self, step: int) -> list[int]:
        """The items of a step: a pure function of seed and step."""
        epoch, place = divmod(step, self._per_epoch)
        size = self._settings.batch_size
        order = epoch_order(len(self._examples), seed=derive(self._seed, "data"), epoch=epoch)
        return [int(item) for item in order[place * size : (place + 1) * size]]

    def estimate(self) -> Estimate:
        """As the first step goes; held-out examples are read once at the end, and as often as they are asked for."""
        every, first = self._settings.evaluate_every, [self._examples[item] for item in self.items(0)]
        looks = 1 + (1 + self.total // every if every else 0)
        return estimate_updates(
            self._learner, first, max(self._examples, key=lambda one: tokens_of([one])), self._objective.need,
            trained=tokens_of(self._examples) * self.total / self._per_epoch,
            evaluated=tokens_of(self._held_out) * looks,
        )  # fmt: skip

    def begin(self, stop: StopRequest) -> Metrics:
        """The loss before training, if it is measured on the way."""
        return self._evaluated(stop.check) if self._settings.evaluate_every else {}

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """One optimiser step; a request to stop abandons it between two micro-batches."""
        rate, watch, every = self._settings.rate(index, self.total), Stopwatch(), self._settings.evaluate_every
        chosen = [self._examples[item] for item in self.items(index)]
        with watch.phase("update"):
            row = update(self._learner, chosen, self._objective, rate, self.skipped_batches, progress=stop.check)
        row["epoch"] = (index + 1) / self._per_epoch
        row |= watch.row(tokens_of(chosen))
        if self._held_out and (index + 1 == self.total or (every and (index + 1) % every == 0)):
            row |= self._evaluated()
        return row

    def _evaluated(self, progress: Progress = silent) -> Metrics:
        watch = Stopwatch()
        with watch.phase("evaluate"):
            seen = evaluated(self._learner, self._held_out, self._objective, progress=progress)
        return {f"eval_{name}": value for name, value in seen.items()} | {"seconds/evaluate": watch.seconds}


def evaluated(
    learner: Learner, examples: Sequence[Example], objective: Objective, *, progress: Progress = silent
) -> Metrics:
    """The means that the loss tallies, without training."""
    outputs = Outputs.joined(learner.score(examples, objective.need, progress=progress))
    result = objective.step_loss(learner, examples)(outputs, examples, objective.count(examples))
    tally = Tally()
    result.add_to(tally)
    return tally.means()


def update(
    learner: Learner, examples: Sequence[Example], objective: Objective, rate: float, skipped: list[SkippedBatch], *,
    progress: Progress = silent,
) -> Metrics:  # fmt: skip
    """One optimiser step as a row of metrics; the micro-batches of a step without effect are added to `skipped`."""
    loss = objective.step_loss(learner, examples)
    report = learner.update(examples, objective.need, loss, objective.count(examples), rate, progress=progress)
    skipped.extend(report.skipped)
    row = report.means | {"learning_rate": rate, "skipped_updates": float(bool(report.skipped))}
    return row if report.skipped else row | {"gradient_norm": report.gradient_norm}
