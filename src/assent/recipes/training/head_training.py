"""A reward head alone, on a trunk that stays as it is: the convex fit of `model/linear_heads.py` as a training run.

With some hundred labels this is steadier than changing all weights: there is one best head, and no seed of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from assent.algorithms.reward import EncodedPreference, RewardSettings, placed_pairs
from assent.backends.local.features import FeatureBatch, read_features
from assent.data.order import token_budget_batches
from assent.errors import ConfigError
from assent.interrupts import StopRequest
from assent.metrics import Metrics
from assent.model.checkpoints import load_tree, save_tree
from assent.model.linear_heads import Floats, HeadExamples, fit_reward
from assent.model.roles import ScalarRole
from assent.ports.learning import SkippedBatch


class HeadTask:
    """One tick: read what the head reads of every judged completion, fit the head, set it."""

    total, unit = 1, "fits"

    def __init__(self, role: ScalarRole, judgements: Sequence[EncodedPreference], settings: RewardSettings) -> None:
        """ConfigError where there is nothing to compare, or something that this fit does not know."""
        self._role, self._judgements, self._budget = role, judgements, settings.micro_batch_tokens
        self.skipped_batches: list[SkippedBatch] = []
        self._pairs = pairs = placed_pairs(judgements)
        if role.head.out_features != 1 or settings.loss != "bradley_terry" or settings.centre:
            now = 'Leave loss, centre and classes as they are, or use train="all".'
            raise ConfigError("a head alone is learned from pairs, as one number", where="train", now=now)
        if not pairs or any(pair.margin for pair in pairs):
            what = "a head alone is learned from comparisons or rankings without margins"
            raise ConfigError(what, where="train", now='Use --set train="all".')

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """The whole training."""
        examples = HeadExamples(
            better_P=np.array([pair.better for pair in self._pairs]),
            worse_P=np.array([pair.worse for pair in self._pairs]),
            probability_P=np.array([pair.probability for pair in self._pairs]),
        )
        fitted = fit_reward(self._features(), examples)
        with torch.no_grad():
            self._role.head.weight.copy_(torch.from_numpy(fitted.weight_D)[None])
            if self._role.head.bias is not None:
                self._role.head.bias.zero_()
        return {
            "loss": fitted.loss, "accuracy": fitted.accuracy, "prior_spread": fitted.prior_spread,
            "evidence": fitted.evidence, "pairs": float(len(self._pairs)),
        }  # fmt: skip

    def save(self, folder: Path) -> dict[str, str]:
        """The head."""
        return save_tree(folder, {"head": dict(self._role.head.state_dict())})

    def load(self, folder: Path) -> None:
        """The reverse of `save`."""
        self._role.head.load_state_dict(load_tree(folder)["head"])

    def _features(self) -> Floats:
        sequences = [sequence.ids for one in self._judgements for sequence in one.sequences]
        order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
        found_ND = np.zeros((len(sequences), self._role.head.in_features))
        for part in token_budget_batches([len(sequences[place]) for place in order], self._budget):
            places = tuple(order[position] for position in part)
            batch = FeatureBatch(sequences=tuple(sequences[place] for place in places), places=places)
            found_ND[list(places)] = read_features(self._role, batch)
        return found_ND
