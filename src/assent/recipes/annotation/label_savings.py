"""The saving of a project's rounds as a run folder that the studio draws: accuracy by labels, at random and chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from assent.active_learning.acquisition import RANDOM
from assent.active_learning.label_savings import AccuracyEstimate, SavingPoint, saving_curve
from assent.durable import write_atomic
from assent.metrics import Metrics
from assent.recipes.annotation.questions import prompt_key
from assent.recipes.run.features import features_of
from assent.recipes.run.models import RewardModel
from assent.recipes.run.progress import Display
from assent.runs.folder import RunDir
from assent.types import Comparison

KIND = "label_savings"


def keep_asked(file: Path, asked: Mapping[str, str]) -> None:
    """Remember what each question (by its prompt's key) was asked for."""
    write_atomic(file, json.dumps(dict(asked), indent=1) + "\n")


def measure_saving(
    trunk: RewardModel,
    comparisons: Sequence[Comparison],
    asked: Sequence[Path],
    out: Path,
    display: Display,
    *,
    seed: int,
) -> None:
    """Write the run folder `out`; pairs whose question is in none of the files `asked` are left out.

    `trunk` must not have learned from these answers: what it reads of a pair would know the answer.
    """
    serves: dict[str, str] = {}
    for file in asked:
        serves |= json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    known = [one for one in comparisons if prompt_key(one.prompt) in serves and one.probability != 0.5]
    if not known:
        return
    sides = [(one.prompt, one.chosen) for one in known] + [(one.prompt, one.rejected) for one in known]
    feature_ND = features_of(trunk, sides)
    random_P = np.array([serves[prompt_key(one.prompt)] == RANDOM for one in known])
    difference_PD = feature_ND[: len(known)] - feature_ND[len(known) :]
    points = saving_curve(difference_PD, np.array([one.probability for one in known]), random_P, seed=seed)
    if not points:
        display.say(f"{int(random_P.sum())} answers of {len(known)} are of the random arm: too few to tell a saving")
        return
    write_curve(out, [row_of(point) for point in points], labels=[point.labels for point in points])
    last = points[-1]
    display.say(
        f"after {last.labels} labels each: {_said(last.random)} right where asked at random, {_said(last.chosen)} where"
        f" chosen, difference {_said(last.difference)}"
    )


def row_of(point: SavingPoint) -> Metrics:
    """A point as a row of metrics."""
    return {
        f"accuracy_{name}{end}": value
        for name, share in (("random", point.random), ("chosen", point.chosen))
        for end, value in (("", share.value), ("_low", share.low), ("_high", share.high))
    }


def write_curve(out: Path, rows: Sequence[Metrics], *, labels: Sequence[int]) -> None:
    """A finished run folder of kind "label_savings", one row a number of labels; it replaces the one before."""
    there = (out / "config.json").is_file()
    with RunDir.create(out, kind=KIND, settings={}, lineage={}, total=labels[-1], overwrite=there) as run:
        for count, row in zip(labels, rows, strict=True):
            run.metrics.append(count, row)
        run.sync()
        run.set_status("finished", step=labels[-1])


def _said(share: AccuracyEstimate) -> str:
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"
