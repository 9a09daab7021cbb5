"""Exact inference about shares: Clopper-Pearson intervals, binomial tests, Holm's correction; standard library only.

I_x(a, b)   regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)
P(X >= k)   = I_p(k, n - k + 1) for X ~ Binomial(n, p)
interval    low solves P(X >= k; low) = alpha / 2, high solves P(X <= k; high) = alpha / 2   Clopper & Pearson 1934
Holm 1979   sorted p-values p_(1) <= ... <= p_(m):  adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from assent.errors import DataError

_STEPS = 100_000
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A share in [0, 1] of `count` cases with the ends of its interval; without cases `value` is None in [0, 1]."""

    value: float | None
    low: float
    high: float
    count: int


def exact_share(successes: int, count: int, *, level: float = 0.95) -> Proportion:
    """The share of successes with its Clopper-Pearson interval, which covers at least at its stated rate."""
    if not 0 <= successes <= count:
        raise DataError(f"a share needs 0 <= successes <= count, got {successes} of {count}")
    if not count:
        return Proportion(value=None, low=0.0, high=1.0, count=0)
    tail = (1 - level) / 2
    low = beta_quantile(tail, successes, count - successes + 1) if successes else 0.0
    high = beta_quantile(1 - tail, successes + 1, count - successes) if successes < count else 1.0
    return Proportion(value=successes / count, low=low, high=high, count=count)


def binomial_p_value(successes: int, count: int, *, chance: float = 0.5) -> float:
    """Twice the smaller exact tail, at most 1: the two-sided p-value that goes with Clopper and Pearson's interval."""
    if not 0 <= successes <= count or not 0 < chance < 1:
        raise DataError(f"a test needs 0 <= successes <= count and 0 < chance < 1, got {successes}, {count}, {chance}")
    at_least = incomplete_beta(successes, count - successes + 1, chance) if successes else 1.0
    at_most = 1 - incomplete_beta(successes + 1, count - successes, chance) if successes < count else 1.0
    return min(1.0, 2 * min(at_least, at_most))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number: below 0.05 here means at most 5 % chance of even one false finding."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = probability, by bisection to the last bits."""
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        if incomplete_beta(a, b, middle) < probability:
            low = middle
        else:
            high = middle
        if high - low < 1e-15 * high:
            break
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), a and b > 0, 0 <= x <= 1."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / (a * _continued_fraction(a, b, x))


def _continued_fraction(a: float, b: float, x: float) -> float:
    """1 + d_1 / (1 + d_2 / (1 + ...)) by the modified Lentz method."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, _STEPS):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _away_from_zero(1 + term * d)
        c = _away_from_zero(1 + term / c)
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _away_from_zero(number: float) -> float:
    return number if abs(number) > _SMALLEST else _SMALLEST
