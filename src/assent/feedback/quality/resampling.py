"""Bootstrap intervals over items: every statistic is a function of how often each item is counted.

A statistic takes weights of shape [R, N] (R resamples of N items; a row says how often each item was drawn) and gives
[R] values, nan where it is undefined. One row of ones is the estimate itself. So that all resamples are computed at
once, a statistic sums per-item quantities with a matrix product instead of drawing rows again and again.

    percentile  quantiles of the resampled values, the tails widened to Student's t (Hesterberg 2015, section 5.3)
    bca         bias-corrected and accelerated (Efron 1987): the tails shifted by the bias z0 and the acceleration a,
                    alpha' = Phi(z0 + (z0 + z) / (1 - a (z0 + z))),   z0 = Phi^-1(share below the estimate),
                    a = sum d^3 / (6 (sum d^2)^1.5),   d = mean of the jackknife values - jackknife value,
                with z widened in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assent.errors import ConfigError
from assent.seeds import numpy_rng

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Statistic = Callable[[Floats], Floats]

_CELLS = 4_000_000  # weights drawn at once: 32 MB
_JACKKNIFE_BLOCKS = 400
_UNDEFINED_AT_MOST = 0.05  # share of resamples without a value beyond which no interval is given
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made; `level` is the stated rate of coverage."""

    seed: int = 0
    resamples: int = 2000
    level: float = 0.95
    method: Literal["bca", "percentile"] = "bca"

    def __post_init__(self) -> None:
        if self.resamples < 20 or not 0.5 <= self.level < 1:
            got = f"got {self.resamples} and {self.level}"
            raise ConfigError(f"intervals need resamples >= 20 and 0.5 <= level < 1, {got}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with the ends of its interval; `value` is None where it is undefined and `reason` says why.

    `count` is the number of items that entered. `low` and `high` are None when no interval was asked for or the spread
    cannot be known; then too `reason` says why.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0
    reason: str = ""


def summed(place_V: Integers, value_V: Floats, size: int) -> Floats:
    """The sum of the values at each of `size` places."""
    return np.bincount(place_V, weights=value_V, minlength=size).astype(np.float64)


def undefined(reason: str, count: int = 0) -> Estimate:
    """No figure, with the reason."""
    return Estimate(value=None, count=count, reason=reason)


def estimate(statistic: Statistic, count: int, resampling: Resampling | None, *, why_undefined: str) -> Estimate:
    """The statistic of `count` items, with an interval if `resampling` is given."""
    value = float(statistic(np.ones((1, count)))[0]) if count else math.nan
    if not math.isfinite(value):
        return undefined(why_undefined, count)
    if resampling is None:
        return Estimate(value=value, count=count)
    if count < 3:
        return Estimate(value=value, count=count, reason="fewer than 3 items say nothing about the spread")
    values_R = resampled(statistic, count, resampling)
    defined_R = values_R[np.isfinite(values_R)]
    if len(defined_R) < (1 - _UNDEFINED_AT_MOST) * len(values_R):
        reason = "the figure is undefined in more than 5 % of the resamples: too few items differ"
        return Estimate(value=value, count=count, reason=reason)
    jackknife_G = jackknife(statistic, count) if resampling.method == "bca" else None
    low, high = interval(value, defined_R, count=count, level=resampling.level, jackknife_G=jackknife_G)
    return Estimate(value=value, low=low, high=high, count=count)


def estimate_from_sums(
    sums_NC: Floats,
    measure: Statistic,
    resampling: Resampling | None,
    *,
    why_undefined: str,
    group_N: Integers | None = None,
) -> Estimate:
    """`measure` of the summed columns, [R, C] -> [R]; rows of one group are resampled together, and counted as one."""
    if group_N is not None:
        names, group_N = np.unique(group_N, return_inverse=True)
        sums_GC = np.zeros((len(names), sums_NC.shape[1]))
        np.add.at(sums_GC, group_N, sums_NC)
        sums_NC = sums_GC
    return estimate(
        lambda weight_RN: measure(weight_RN @ sums_NC), len(sums_NC), resampling, why_undefined=why_undefined
    )


def resampled(statistic: Statistic, count: int, resampling: Resampling) -> Floats:
    """The statistic in every resample of `count` items, nan where it is undefined."""
    rng = numpy_rng(resampling.seed, "resampling")
    rows = max(1, _CELLS // count)
    sizes = (min(rows, resampling.resamples - start) for start in range(0, resampling.resamples, rows))
    return np.concatenate([statistic(draw_weights(rng, size, count)) for size in sizes])


def draw_weights(rng: np.random.Generator, rows: int, count: int) -> Floats:
    """How often each of `count` items is drawn in each of `rows` resamples with replacement; [rows, count]."""
    picked = rng.integers(0, count, size=(rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(picked.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def jackknife(statistic: Statistic, count: int) -> Floats:
    """The statistic without each item, or without each of 400 blocks of items where there are more."""
    blocks = min(count, _JACKKNIFE_BLOCKS)
    block_of_N = np.arange(count) * blocks // count
    rows = max(1, _CELLS // count)
    parts = []
    for start in range(0, blocks, rows):
        skipped = np.arange(start, min(start + rows, blocks))
        parts.append(statistic((block_of_N != skipped[:, None]).astype(np.float64)))
    return np.concatenate(parts)


def interval(
    value: float, values_R: Floats, *, count: int, level: float, jackknife_G: Floats | None = None
) -> tuple[float, float]:
    """The ends of the interval around `value`; with `jackknife_G` the bias-corrected and accelerated one."""
    z = widened(count, level)
    tails = np.array([-z, z])
    if jackknife_G is not None:
        below = float(np.mean(values_R < value) + np.mean(values_R == value) / 2)
        smallest = 0.5 / len(values_R)
        bias = _NORMAL.inv_cdf(min(max(below, smallest), 1 - smallest))
        acceleration = _acceleration(jackknife_G)
        shifted = bias + tails
        tails = bias + shifted / np.maximum(1 - acceleration * shifted, 0.1)
    low, high = np.quantile(values_R, [_NORMAL.cdf(float(tail)) for tail in tails])
    return min(float(low), value), max(float(high), value)


def widened(count: int, level: float) -> float:
    """The normal quantile that gives a bootstrap interval of a mean of `count` items the width of Student's t."""
    z = _NORMAL.inv_cdf(0.5 + level / 2)
    free = max(count - 1, 2)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return math.sqrt(count / free) * t


def _acceleration(jackknife_G: Floats) -> float:
    defined_G = jackknife_G[np.isfinite(jackknife_G)]
    if len(defined_G) < 3:
        return 0.0
    away_G = defined_G.mean() - defined_G
    spread = float((away_G**2).sum())
    return float((away_G**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
