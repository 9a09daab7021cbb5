"""How a reward grows with the distance from the reference: the laws of Gao et al. (2022, arXiv 2210.10760).

With d = sqrt(KL from the reference, nats a completion) and R(d) = reward - reward at the start:

    reinforcement learning   R(d) = d (alpha - beta ln d)     highest at d* = exp(alpha / beta - 1)
    best of n                R(d) = d (alpha - beta d)        highest at d* = alpha / (2 beta),  KL = ln n - (n - 1) / n

Both are linear in alpha and beta, so they are fitted by least squares. Where beta <= 0 the curve has no highest point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_LEAST = 1e-6  # a distance below this is the start itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFit:
    """A fitted law. `start` is the reward at KL 0, `peak_kl` where the fitted curve is highest (None: nowhere), and
    `r_squared` the share of the variance of R that it explains (None where R has none)."""

    start: float
    alpha: float
    beta: float
    points: int
    peak_kl: float | None
    r_squared: float | None


def fit_rl(kl: ArrayLike, reward: ArrayLike) -> ScalingFit | None:
    """The law of reinforcement learning through the first point; None for fewer than three others."""
    return _fit(kl, reward, lambda d: -d * np.log(d), lambda alpha, beta: math.exp(min(alpha / beta - 1, 50.0)))


def fit_best_of_n(kl: ArrayLike, reward: ArrayLike) -> ScalingFit | None:
    """The law of best-of-n through the first point; None for fewer than three others."""
    return _fit(kl, reward, lambda d: -(d**2), lambda alpha, beta: max(0.0, alpha / (2 * beta)))


def fitted_rl(fit: ScalingFit, kl: Sequence[float]) -> list[float]:
    """The fitted curve of reinforcement learning, as rewards."""
    distances = [math.sqrt(max(0.0, one)) for one in kl]
    return [fit.start + (d * (fit.alpha - fit.beta * math.log(d)) if d > _LEAST else 0.0) for d in distances]


def best_of_n_kl(n: int) -> float:
    """KL of the best of n from the distribution that they are drawn from, in nats (exact without ties)."""
    return math.log(n) - (n - 1) / n


def _fit(
    kl: ArrayLike, reward: ArrayLike, second: Callable[[Floats], Floats], peak: Callable[[float, float], float]
) -> ScalingFit | None:
    distance_E = np.sqrt(np.maximum(np.asarray(kl, dtype=np.float64), 0.0))
    reward_E = np.asarray(reward, dtype=np.float64)
    away_E = distance_E > _LEAST
    if away_E.sum() < 3:
        return None
    d, start = distance_E[away_E], float(reward_E[0])
    gained = reward_E[away_E] - start
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, second(d)], axis=1), gained, rcond=None)
    left = gained - alpha * d - beta * second(d)
    total = float(((gained - gained.mean()) ** 2).sum())
    return ScalingFit(
        start=start, alpha=float(alpha), beta=float(beta), points=int(away_E.sum()),
        peak_kl=peak(float(alpha), float(beta)) ** 2 if beta > 0 else None,
        r_squared=1 - float((left**2).sum()) / total if total > 0 else None,
    )  # fmt: skip
