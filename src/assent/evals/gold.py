"""Gold scores of arms: means with intervals, by kind of prompt, and the gap closed.

Every mean is resampled prompt by prompt. Arms of several training seeds are pooled before (`pooled`): the prompt stays
the unit, so the interval speaks about new prompts; how far the seeds scatter is shown seed by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain, compress

import numpy as np

from assent.errors import DataError
from assent.evals.intervals import Interval, bootstrap_mean, bootstrap_ratio
from assent.seeds import derive
from assent.world.judge import Gold

AXES = ("overall", "helpful", "honest", "harmless")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScores:
    """Gold scores of one arm, one entry a completion; `prompts` says which prompt each completion answers."""

    prompts: tuple[str, ...]
    kinds: tuple[str, ...]
    overall: tuple[float, ...]
    helpful: tuple[float, ...]
    honest: tuple[float, ...]
    harmless: tuple[float, ...]

    def axis(self, name: str) -> tuple[float, ...]:
        """The scores on one of AXES."""
        if name not in AXES:
            raise DataError(f'no axis "{name}"', now=f"Axes are {', '.join(AXES)}.")
        scores: tuple[float, ...] = getattr(self, name)
        return scores


_COLUMNS = fields(ArmScores)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisIntervals:
    """The four means of an arm."""

    overall: Interval
    helpful: Interval
    honest: Interval
    harmless: Interval

    def axis(self, name: str) -> Interval:
        """The interval on one of AXES."""
        interval: Interval = getattr(self, name)
        return interval


def arm_scores(prompts: Sequence[str], kinds: Sequence[str], scores: Sequence[Gold]) -> ArmScores:
    """The scores of an arm's completions; the three sequences run in parallel."""
    if not len(prompts) == len(kinds) == len(scores):
        raise DataError(f"{len(prompts)} prompts, {len(kinds)} kinds and {len(scores)} scores do not match")
    by_axis = {axis: tuple(getattr(score, axis) for score in scores) for axis in AXES}
    return ArmScores(prompts=tuple(prompts), kinds=tuple(kinds), **by_axis)


def pooled(arms: Sequence[ArmScores]) -> ArmScores:
    """One arm of several seeds as one; the same prompt in two seeds stays one prompt."""
    return ArmScores(
        **{column.name: tuple(chain.from_iterable(getattr(arm, column.name) for arm in arms)) for column in _COLUMNS}
    )


def gold_means(arm: ArmScores, *, seed: int) -> AxisIntervals:
    """The mean on each axis, with bootstrap intervals over prompts."""
    return AxisIntervals(
        **{axis: bootstrap_mean(arm.axis(axis), seed=derive(seed, "gold", axis), groups=arm.prompts) for axis in AXES}
    )


def gold_by_kind(arm: ArmScores, *, seed: int) -> dict[str, AxisIntervals]:
    """`gold_means` for each kind of prompt, in order of first appearance."""
    means = {}
    for kind in dict.fromkeys(arm.kinds):
        chosen = [its_kind == kind for its_kind in arm.kinds]
        part = ArmScores(**{one.name: tuple(compress(getattr(arm, one.name), chosen)) for one in _COLUMNS})
        means[kind] = gold_means(part, seed=derive(seed, kind))
    return means


def gap_closed(start: ArmScores, arm: ArmScores, oracle: ArmScores, *, seed: int, axis: str = "overall") -> Interval:
    """(arm - start) / (oracle - start): the share of the distance to ideal answers that training covered.

    All three are averaged within each prompt and resampled together, so the interval is a paired one. Below 0 the arm
    is worse than the start. Raises DataError if the arms answer different prompts.
    """
    start_P, arm_P, oracle_P = (_means_by_prompt(scores, axis) for scores in (start, arm, oracle))
    if not start_P.keys() == arm_P.keys() == oracle_P.keys():
        raise DataError("the arms answer different prompts", now="Evaluate every arm on the same prompts.")
    gained = [arm_P[prompt] - before for prompt, before in start_P.items()]
    possible = [oracle_P[prompt] - before for prompt, before in start_P.items()]
    return bootstrap_ratio(gained, possible, seed=derive(seed, "gap", axis))


def _means_by_prompt(arm: ArmScores, axis: str) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for prompt, score in zip(arm.prompts, arm.axis(axis), strict=True):
        scores.setdefault(prompt, []).append(score)
    return {prompt: float(np.mean(values)) for prompt, values in scores.items()}
