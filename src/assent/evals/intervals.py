"""Confidence intervals: bootstrap over independent groups, and Wilson's interval for rates.

Completions of one prompt are not independent, so means are resampled prompt by prompt (the cluster bootstrap). The
percentile interval is a little too narrow for few groups; its tail probability is therefore expanded to match
Student's t (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assent.errors import DataError
from assent.seeds import numpy_rng

Floats = NDArray[np.float64]
LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_ROUNDING = 1e-12  # relative width below which resamples differ by rounding alone
_RESAMPLED_CELLS = 4_000_000  # indices drawn at once; bounds the memory at 32 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the ends of its confidence interval; `low == high` if the spread is unknown.

    `n` counts the independent items behind it (prompts, label groups, conversations); 0 for a bare value.
    """

    mean: float
    low: float
    high: float
    n: int = 0


def bootstrap_mean(
    values: ArrayLike, *, seed: int, groups: Sequence[Hashable] | None = None, resamples: int = 2000
) -> Interval:
    """The mean of `values` with a bootstrap interval over `groups` (one label a value, for example its prompt)."""
    values_N = finite(values, "values")
    return bootstrap_ratio(values_N, np.ones_like(values_N), seed=seed, groups=groups, resamples=resamples)


def bootstrap_rate(values: ArrayLike, *, seed: int, groups: Sequence[Hashable] | None = None) -> Interval:
    """`bootstrap_mean` of shares in [0, 1]; Wilson's where all groups agree and resampling shows no spread."""
    found = bootstrap_mean(values, seed=seed, groups=groups)
    return wilson(found.mean * found.n, found.n) if found.low == found.high and found.n > 1 else found


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, seed: int, groups: Sequence[Hashable] | None = None
) -> Interval:
    """The mean of `first - second`, taken item by item, so that what both share (easy and hard prompts) cancels."""
    first_N, second_N = finite(first, "first"), finite(second, "second")
    if first_N.shape != second_N.shape:
        raise DataError(f"paired values differ in number: {len(first_N)} and {len(second_N)}")
    return bootstrap_mean(first_N - second_N, seed=seed, groups=groups)


def bootstrap_ratio(
    above: ArrayLike, below: ArrayLike, *, seed: int, groups: Sequence[Hashable] | None = None, resamples: int = 2000
) -> Interval:
    """sum(above) / sum(below), both resampled together, group by group.

    Raises DataError for no values, for values that are not finite, and where the denominators sum to zero. A single
    group, or groups that all agree, say nothing about the spread: `low == mean == high`.
    """
    columns = finite(above, "numerators"), finite(below, "denominators")
    if columns[1].sum() == 0:
        raise DataError("a ratio has a denominator of zero")
    return bootstrap_sums(columns, lambda sums: sums[0] / sums[1], seed=seed, groups=groups, resamples=resamples)


def bootstrap_sums(
    columns: Sequence[Floats],
    statistic: Callable[[Sequence[Floats]], Floats],
    *,
    seed: int,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
) -> Interval:
    """`statistic` of the sums of columns, all resampled together, group by group; it gets arrays, one sum a resample.

    Resamples on which it is not finite do not count.
    """
    grouped = [column if groups is None else _sums(column, groups) for column in columns]
    mean, count = float(statistic([np.atleast_1d(column.sum()) for column in grouped])[0]), len(grouped[0])
    if count < 2:
        return Interval(mean=mean, low=mean, high=mean, n=count)
    found_R = _resampled(grouped, statistic, seed=seed, resamples=resamples)
    tail = expanded_tail(count)
    low, high = np.quantile(found_R, [tail, 1 - tail]) if len(found_R) else (mean, mean)
    if high - low <= _ROUNDING * abs(mean):  # all groups agree
        low = high = mean
    return Interval(mean=mean, low=float(low), high=float(high), n=count)


def wilson(successes: float, count: float) -> Interval:
    """Wilson's score interval for a rate; `successes` may hold halves (ties)."""
    if not 0 <= successes <= count or count <= 0:
        raise DataError(f"a rate needs 0 <= successes <= count and count > 0, got {successes} of {count}")
    rate = successes / count
    centre = (rate + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(rate * (1 - rate) / count + Z * Z / (4 * count * count))
    low, high = min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))
    return Interval(mean=rate, low=low, high=high, n=round(count))


def expanded_tail(count: int) -> float:
    """The tail probability whose percentile interval has, for a mean of `count` groups, the width of Student's t."""
    free = count - 1
    # Cornish-Fisher expansion of the t quantile: within 1 % from 4 groups on.
    t = Z + (Z**3 + Z) / (4 * free) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * free**2)
    t += (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * free**3)
    return NormalDist().cdf(-math.sqrt(count / free) * t)


def finite(values: ArrayLike, name: str) -> Floats:
    """`values` as a flat float64 array; DataError if there are none or one is not finite."""
    array_N = np.asarray(values, dtype=np.float64).ravel()
    if not len(array_N):
        raise DataError(f"no {name} to measure")
    if not np.isfinite(array_N).all():
        where = int(np.flatnonzero(~np.isfinite(array_N))[0])
        raise DataError(f"{name} must be finite numbers, got {array_N[where]} at position {where}")
    return array_N


def _sums(values_N: Floats, groups: Sequence[Hashable]) -> Floats:
    if len(groups) != len(values_N):
        raise DataError(f"{len(values_N)} values came with {len(groups)} group labels")
    order = {label: position for position, label in enumerate(dict.fromkeys(groups))}
    positions_N = np.fromiter((order[label] for label in groups), dtype=np.int64, count=len(groups))
    sums_G: Floats = np.bincount(positions_N, weights=values_N, minlength=len(order)).astype(np.float64)
    return sums_G


def _resampled(
    columns: Sequence[Floats], statistic: Callable[[Sequence[Floats]], Floats], *, seed: int, resamples: int
) -> Floats:
    rng = numpy_rng(seed, "bootstrap")
    count = len(columns[0])
    rows = max(1, _RESAMPLED_CELLS // count)
    found: list[Floats] = []
    for start in range(0, resamples, rows):
        picked_RG = rng.integers(0, count, size=(min(rows, resamples - start), count))
        with np.errstate(divide="ignore", invalid="ignore"):
            found_R = statistic([column_G[picked_RG].sum(axis=1) for column_G in columns])
        found.append(found_R[np.isfinite(found_R)])
    return np.concatenate(found)
