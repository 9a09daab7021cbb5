"""The published models of crowds, loaded one by one: the package wants nltk and more, they want attrs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from assent.feedback.quality.crowd_bradley_terry import Comparisons
from assent.feedback.quality.reliability import Votes


def crowdkit(module: str, name: str) -> Any:
    """A class of `crowdkit.aggregation`, without running the package's own list of all models."""
    pytest.importorskip("attr", reason="crowd-kit's models need attrs")
    root = pytest.importorskip("crowdkit")
    if "crowdkit.aggregation" not in sys.modules:
        package = ModuleType("crowdkit.aggregation")
        package.__path__ = [str(Path(root.__file__).parent / "aggregation")]
        sys.modules["crowdkit.aggregation"] = package
    return getattr(importlib.import_module(f"crowdkit.aggregation.{module}"), name)


def votes_of_table(table: np.ndarray | list, *, classes: int = 2) -> Votes:
    """Votes of a table of items x people holding classes from 0 on, nan where somebody did not vote."""
    said = np.asarray(table, float)
    item, person = np.nonzero(~np.isnan(said))
    return Votes(
        item_V=item, person_V=person, label_V=said[item, person].astype(np.int64),
        items=said.shape[0], people=said.shape[1], classes=classes,
    )  # fmt: skip


def random_votes(seed: int) -> Votes:
    """4 to 15 items, 2 to 5 people between nearly random and good, 2 or 3 classes; in half the tables 30 % missing."""
    rng = np.random.default_rng(seed)
    items, people, classes = rng.integers(4, 16), rng.integers(2, 6), rng.integers(2, 4)
    truth = rng.integers(0, classes, items)
    knows = rng.random((items, people)) < rng.uniform(0.3, 0.95, people)
    said = np.where(knows, truth[:, None], rng.integers(0, classes, (items, people))).astype(float)
    said[rng.random((items, people)) < rng.choice([0, 0.3])] = np.nan
    said = said[~np.isnan(said).all(axis=1)]
    said = said[:, ~np.isnan(said).all(axis=0)]
    used, place = np.unique(said[~np.isnan(said)], return_inverse=True)
    said[~np.isnan(said)] = place
    return votes_of_table(said, classes=max(2, len(used)))


def random_comparisons(seed: int) -> Comparisons:
    """20 to 49 answers of 2 to 4 people about 3 to 6 candidates; every candidate wins and loses against the next."""
    rng = np.random.default_rng(seed)
    candidates, people, answers = rng.integers(3, 7), rng.integers(2, 5), rng.integers(20, 50)
    score = rng.normal(size=candidates)
    first = rng.integers(0, candidates, answers)
    second = (first + rng.integers(1, candidates, answers)) % candidates
    person = rng.integers(0, people, answers)
    attention = rng.uniform(0.5, 1, people)[person]
    chance = attention / (1 + np.exp(score[second] - score[first])) + (1 - attention) * 0.7
    won = (rng.random(answers) < chance).astype(float)
    ring = np.arange(candidates)
    return Comparisons(
        first_V=np.concatenate([first, ring, ring]),
        second_V=np.concatenate([second, np.roll(ring, 1), np.roll(ring, 1)]),
        person_V=np.concatenate([person, ring % people, ring % people]),
        won_V=np.concatenate([won, np.ones(candidates), np.zeros(candidates)]),
        group_S=np.zeros(candidates, np.int64),
        people=int(people),
    )
