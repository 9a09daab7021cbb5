"""What choosing the questions saves, from the answers themselves: the random arm is the measure.

The arm's answers are a fair sample of all questions that could be asked. They are split at random, again and again:
one half measures; a reward head learns from n answers of the other half, another one from n chosen answers. Accuracy is
the share of the measuring half put in the order that people said (soft labels: its expectation).

Legend: P labelled pairs, D features, S splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assent.model.linear_heads import Floats, fit_with_prior
from assent.seeds import numpy_rng

FEWEST = 20  # answers of each kind without which nothing is said
_STEPS, _SPLITS, _Z95 = 6, 20, 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyEstimate:
    """An accuracy with its interval at 95 %, over the answers of the random arm."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingPoint:
    """Accuracy after so many labels asked at random, after as many chosen ones, and their difference (paired)."""

    labels: int
    random: AccuracyEstimate
    chosen: AccuracyEstimate
    difference: AccuracyEstimate


def saving_curve(
    difference_PD: Floats, probability_P: Floats, random_P: npt.NDArray[np.bool_], *, seed: int
) -> tuple[SavingPoint, ...]:
    """The two learning curves; empty with fewer than FEWEST answers of either kind.

    `difference_PD` are features of the first less those of the second completion, `probability_P` how sure people were
    that the first is better, `random_P` which pairs are of the random arm.
    """
    arm, chosen = np.flatnonzero(random_P), np.flatnonzero(~random_P)
    most = min(len(arm) // 2, len(chosen))
    if len(arm) < 2 * FEWEST or most < FEWEST:
        return ()
    scaled_PD = difference_PD / (difference_PD.std(axis=0) + 1e-9)
    _, (_, spread) = fit_with_prior(scaled_PD, probability_P)
    rng = numpy_rng(seed, "saving")
    steps = sorted({round(FEWEST * (most / FEWEST) ** (step / (_STEPS - 1))) for step in range(_STEPS)})
    right = np.zeros((2, len(steps), len(probability_P)))
    times_P = np.zeros(len(probability_P))
    for _ in range(_SPLITS):
        order = rng.permutation(arm)
        learning, measuring = order[: len(arm) // 2], order[len(arm) // 2 :]
        times_P[measuring] += 1
        for kind, source in enumerate((learning, rng.permutation(chosen))):
            for place, labels in enumerate(steps):
                learned = source[:labels]
                weight_D, _ = fit_with_prior(scaled_PD[learned], probability_P[learned], spreads=(spread,))
                logit_P, sure_P = scaled_PD[measuring] @ weight_D, probability_P[measuring]
                right_P = np.where(logit_P > 0, sure_P, np.where(logit_P < 0, 1 - sure_P, 0.5))
                right[kind, place, measuring] += right_P
    told = right[:, :, arm] / times_P[arm]
    return tuple(
        SavingPoint(
            labels=labels, random=_share(told[0, place]), chosen=_share(told[1, place]),
            difference=_share(told[1, place] - told[0, place]),
        )
        for place, labels in enumerate(steps)
    )  # fmt: skip


def _share(value_P: Floats) -> AccuracyEstimate:
    mean, half = float(value_P.mean()), float(_Z95 * value_P.std(ddof=1) / np.sqrt(len(value_P)))
    return AccuracyEstimate(value=mean, low=mean - half, high=mean + half)
