"""A reward head alone, on a trunk that stays as it is: the convex fit of `model/linear_heads.py` as a training run.

With some hundred labels this is steadier than changing all weights: there is one best head, and no seed of training.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from assent.algorithms.epochs import EpochTask
from assent.algorithms.estimate import Estimate
from assent.algorithms.reward import EncodedPreference, RewardSettings, placed_pairs
from assent.backends.local.features import FeatureBatch, batches_of, read_features
from assent.errors import ConfigError
from assent.interrupts import StopRequest
from assent.metrics import Metrics, Stopwatch
from assent.model.checkpoints import load_tree, save_tree
from assent.model.linear_heads import Floats, HeadExamples, fit_reward
from assent.model.roles import ScalarRole
from assent.ports.learning import SkippedBatch
from assent.recipes.run.progress import Display


def why_not(role: ScalarRole, judgements: Sequence[EncodedPreference], settings: RewardSettings) -> ConfigError | None:
    """Why a head alone cannot be fitted, if so: it is one number, learned from pairs by Bradley-Terry."""
    if role.head.out_features != 1 or settings.loss != "bradley_terry" or settings.centre:
        now = 'Leave loss, centre and classes as they are, or use train="all".'
        return ConfigError("a head alone is learned from pairs, as one number", where="train", now=now)
    pairs = placed_pairs(judgements)
    if not pairs or any(pair.margin for pair in pairs):
        what = "a head alone is learned from comparisons or rankings without margins"
        return ConfigError(what, where="train", now='Use --set train="all".')
    return None


class HeadTask:
    """One tick: read what the head reads of every judged completion, fit the head, set it."""

    total, unit = 1, "fits"

    def __init__(
        self,
        role: ScalarRole,
        judgements: Sequence[EncodedPreference],
        settings: RewardSettings,
        display: Display = Display(quiet=True),
    ) -> None:
        """ConfigError where no head can be fitted."""
        if (problem := why_not(role, judgements, settings)) is not None:
            raise problem
        self._role, self._judgements, self._display = role, judgements, display
        self._most_tokens = role.body.at_once(settings.micro_batch_tokens)
        self.skipped_batches: list[SkippedBatch] = []

    def estimate(self) -> Estimate:
        """Reading takes nearly all of it."""
        return reading_estimate(self._role, self._judgements, self._most_tokens)

    def begin(self, stop: StopRequest) -> Metrics:
        """Nothing."""
        return {}

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """The whole training."""
        watch, pairs = Stopwatch(), placed_pairs(self._judgements)
        with watch.phase("read"):
            feature_ND = read_judged(self._role, self._judgements, self._most_tokens, self._display, stop)
        with watch.phase("fit"):
            examples = HeadExamples(
                better_P=np.array([pair.better for pair in pairs]),
                worse_P=np.array([pair.worse for pair in pairs]),
                probability_P=np.array([pair.probability for pair in pairs]),
            )
            fitted = fit_reward(feature_ND, examples)
        with torch.no_grad():
            self._role.head.weight.copy_(torch.from_numpy(fitted.weight_D)[None])
            if self._role.head.bias is not None:
                self._role.head.bias.zero_()
        tokens = sum(len(sequence) for one in self._judgements for sequence in one.sequences)
        return {
            "loss": fitted.loss, "accuracy": fitted.accuracy, "prior_spread": fitted.prior_spread,
            "evidence": fitted.evidence, "pairs": float(len(pairs)), **watch.row(tokens),
        }  # fmt: skip

    def save(self, folder: Path) -> dict[str, str]:
        """The head."""
        return save_tree(folder, {"head": dict(self._role.head.state_dict())})

    def load(self, folder: Path) -> None:
        """The reverse of `save`."""
        self._role.head.load_state_dict(load_tree(folder)["head"])


def judged_batches(role: ScalarRole, judgements: Sequence[EncodedPreference], most_tokens: int) -> list[FeatureBatch]:
    """All completions; each prompt is read once."""
    sequences = [sequence.ids for one in judgements for sequence in one.sequences]
    starts = accumulate((len(one.sequences) for one in judgements), initial=0)
    groups = [range(at, at + len(one.sequences)) for at, one in zip(starts, judgements, strict=False)]
    return batches_of(role, sequences, groups, most_tokens)


def reading_estimate(role: ScalarRole, judgements: Sequence[EncodedPreference], most_tokens: int) -> Estimate:
    """As one of the batches goes; nothing is kept for a gradient."""
    batches = judged_batches(role, judgements, most_tokens)
    some, started = batches[len(batches) // 2], time.perf_counter()
    read_features(role, some)
    seconds = (time.perf_counter() - started) / len(some.places)
    return Estimate(seconds=seconds * sum(len(batch.places) for batch in batches), memory_bytes=0)


def read_judged(
    role: ScalarRole, judgements: Sequence[EncodedPreference], most_tokens: int, display: Display, stop: StopRequest
) -> Floats:
    """What the head reads of every completion. A request to stop ends it."""
    batches = judged_batches(role, judgements, most_tokens)
    count, done = sum(len(batch.places) for batch in batches), 0
    found_ND = np.zeros((count, role.head.in_features))
    for batch in batches:
        found_ND[list(batch.places)] = read_features(role, batch)
        done += len(batch.places)
        display.note(f"completions read for the head: {done}/{count}")
        stop.check()
    return found_ND


class HeadFirst:
    """A training of everything that starts from the fitted head (Kumar et al. 2022, arXiv 2202.10054)."""

    def __init__(self, fit: HeadTask, task: EpochTask, display: Display) -> None:
        self._fit, self._task, self._display = fit, task, display
        self.total, self.unit, self.skipped_batches = task.total, task.unit, task.skipped_batches
        self.tick, self.save, self.load = task.tick, task.save, task.load

    def estimate(self) -> Estimate:
        """The fit, and what follows."""
        fit, rest = self._fit.estimate(), self._task.estimate()
        return Estimate(seconds=fit.seconds + rest.seconds, memory_bytes=rest.memory_bytes)

    def begin(self, stop: StopRequest) -> Metrics:
        """The fit; a run that is resumed from a checkpoint has it."""
        fitted = self._fit.tick(0, stop)
        told = f"{fitted['loss']:.3f}, accuracy {fitted['accuracy']:.3f} on {fitted['pairs']:.0f} pairs of training"
        self._display.say(f"  head fitted: loss {told}")
        return self._task.begin(stop)
