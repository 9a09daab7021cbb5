"""How good a reward model is: accuracy, calibration and length bias on held-out pairs; AUC for classifiers.

Notation: a pair has rewards c (chosen) and r (rejected) and a label p = P(chosen is better), 1 for a plain label.
The model says q = sigmoid(c - r). Which of the two stands first is arbitrary, so calibration is measured on the side
the model prefers: its confidence max(q, 1 - q) in [0.5, 1] against how often the label agrees. Nothing is lost by
folding, because a pair read the other way round would land at the mirrored point.

Every measure is an expectation over the label: with a soft label p, "chosen" is right with probability p. So a figure
on soft labels is comparable with one on the plain labels that people drawn from p would give:
    accuracy   p if q > 1/2, 1 - p if q < 1/2, 1/2 at a tie
    Brier      p (1 - q)^2 + (1 - p) q^2  =  (q - p)^2 + p (1 - p)
    log loss   -p log q - (1 - p) log(1 - q), in nats
The distance to p itself, (q - p)^2, is `squared_error`: zero for a model that knows the noise, where Brier is not.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from assent.errors import DataError
from assent.evals.intervals import Floats, Interval, Z, bootstrap_rate, finite, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Predictions in one bin: their mean, and how often they came true, with Wilson's interval."""

    low: float
    high: float
    predicted: float
    observed: Interval
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBias:
    """Does the longer answer win? Shares in [0, 1] of the pairs whose lengths differ, by the model and by the labels.

    `correlation` is between reward difference and length difference within pairs, so that it is not blurred by
    prompts that ask for long answers. `longer_chosen` and `shorter_chosen` are the accuracies where people chose the
    longer and the shorter answer; None where they never did, or did not agree.
    """

    correlation: float
    longer_wins: float
    longer_wins_in_labels: float
    longer_chosen: Interval | None
    shorter_chosen: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardQuality:
    """A reward model on held-out pairs. `best_possible` is the accuracy of a model that knows the labels' noise.

    `margin` is in the reward model's own units, `log_loss` in nats. `soft` counts the labels strictly between 0 and 1
    (ties among them); `squared_error` is the distance to the labels as probabilities, None where all are plain.
    """

    pairs: int
    soft: int
    accuracy: float
    accuracy_interval: Interval
    best_possible: float | None
    margin: float
    ece: float
    brier: float
    squared_error: float | None
    log_loss: float
    calibration: tuple[CalibrationBin, ...]
    length_bias: LengthBias | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierQuality:
    """A binary classifier used as a reward, on held-out labels."""

    count: int
    positives: int
    auc: Interval
    accuracy: float
    ece: float
    brier: float
    calibration: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPairs:
    """Rewards of pairs, one entry a pair; `probability` is P(chosen is better), `groups` the prompt of each pair."""

    chosen: Sequence[float]
    rejected: Sequence[float]
    probability: Sequence[float] | None = None
    chosen_length: Sequence[int] | None = None
    rejected_length: Sequence[int] | None = None
    groups: Sequence[Hashable] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredLabels:
    """Rewards of single answers with their labels; 1 is good."""

    rewards: Sequence[float]
    labels: Sequence[float]


def pooled_pairs(parts: Sequence[ScoredPairs]) -> ScoredPairs:
    """The pairs of several reward models as one set; a field that is not there everywhere is left out."""

    def joined(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return None if any(column is None for column in columns) else [one for column in columns for one in column]

    groups = [None if part.groups is None else [(i, group) for group in part.groups] for i, part in enumerate(parts)]
    kept = None if any(each is None for each in groups) else [one for each in groups if each for one in each]
    names = ("chosen", "rejected", "probability", "chosen_length", "rejected_length")
    return ScoredPairs(**{name: joined(name) for name in names}, groups=kept)


def reward_quality(pairs: ScoredPairs, *, seed: int, best_possible: float | None = None) -> RewardQuality:
    """Every measure of a reward model on `pairs`.

    With soft labels the accuracy is the expected one: p where the model prefers chosen, 1 - p where it prefers
    rejected, 1/2 where it is indifferent. It never exceeds `best_possible_accuracy` of the same labels.
    """
    gap_N = finite(pairs.chosen, "chosen rewards") - _like(pairs.rejected, "rejected rewards", len(pairs.chosen))
    label_N = np.ones_like(gap_N) if pairs.probability is None else _labels(pairs.probability, len(gap_N))
    agreement_N = np.where(gap_N > 0, label_N, np.where(gap_N < 0, 1 - label_N, 0.5))
    accuracy = bootstrap_rate(agreement_N, seed=seed, groups=pairs.groups)
    predicted_N = _sigmoid(gap_N)
    calibration = calibration_curve(np.maximum(predicted_N, 1 - predicted_N), agreement_N, low=0.5)
    log_loss_N = label_N * np.logaddexp(0, -gap_N) + (1 - label_N) * np.logaddexp(0, gap_N)
    soft = int(((label_N > 0) & (label_N < 1)).sum())
    return RewardQuality(
        pairs=len(gap_N),
        soft=soft,
        accuracy=accuracy.mean,
        accuracy_interval=accuracy,
        best_possible=best_possible,
        margin=float(np.mean((2 * label_N - 1) * gap_N)),
        ece=expected_calibration_error(calibration),
        brier=brier_score(predicted_N, label_N),
        squared_error=float(np.mean((predicted_N - label_N) ** 2)) if soft else None,
        log_loss=float(log_loss_N.mean()),
        calibration=calibration,
        length_bias=_length_bias(pairs, gap_N, label_N, seed=seed),
    )


def brier_score(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of the predicted probability to the label, 0 or 1; expected, where a label is soft."""
    predicted_N = finite(predicted, "predictions")
    label_N = _labels(labels, len(predicted_N))
    return float(np.mean(label_N * (1 - predicted_N) ** 2 + (1 - label_N) * predicted_N**2))


def best_possible_accuracy(probability: ArrayLike) -> float:
    """The expected accuracy of a model that always names the likelier side: the mean of max(p, 1 - p)."""
    label_N = finite(probability, "probabilities")
    return float(np.maximum(label_N, 1 - label_N).mean())


def classifier_quality(logits: ArrayLike, labels: ArrayLike) -> ClassifierQuality:
    """A binary classifier on `labels` (1 = positive); `logits` are log-odds of the positive class."""
    logit_N = finite(logits, "logits")
    label_N = _labels(labels, len(logit_N))
    predicted_N = _sigmoid(logit_N)
    calibration = calibration_curve(predicted_N, label_N, low=0.0)
    return ClassifierQuality(
        count=len(logit_N),
        positives=int(label_N.sum()),
        auc=auc(logit_N, label_N),
        accuracy=float(np.mean((logit_N > 0) == (label_N > 0.5))),
        ece=expected_calibration_error(calibration),
        brier=brier_score(predicted_N, label_N),
        calibration=calibration,
    )


def auc(scores: ArrayLike, labels: ArrayLike) -> Interval:
    """P(a positive scores above a negative), ties half, with DeLong's interval; DataError if one class is missing.

    With a class of one, or where all agree, DeLong's variance is not known: then the interval is Newcombe's (2006,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", method 5).
    """
    score_N = finite(scores, "scores")
    positive_N = _labels(labels, len(score_N)) > 0.5
    above_P, below_M = score_N[positive_N], score_N[~positive_N]
    if not len(above_P) or not len(below_M):
        raise DataError("AUC needs positives and negatives", now="Give labelled data of both classes.")
    placed_P = _share_below(above_P, below_M)
    placed_M = 1 - _share_below(below_M, above_P)
    area = float(placed_P.mean())
    fewest = min(len(placed_P), len(placed_M))
    variance = sum(float(one.var(ddof=1)) / len(one) for one in (placed_P, placed_M)) if fewest > 1 else 0.0
    if variance:
        low, high = max(0.0, area - Z * math.sqrt(variance)), min(1.0, area + Z * math.sqrt(variance))
    else:
        low, high = _newcombe(area, len(placed_P), len(placed_M))
    return Interval(mean=area, low=low, high=high, n=len(score_N))


def _newcombe(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """The areas A in [0, 1] with (area - A)^2 <= Z^2 V(A), V being the variance that scores of an area A would have.

    V(A) = A (1 - A) (1 + k (1 - A) / (2 - A) + k A / (1 + A)) / (P M), P positives, M negatives, k = (P + M) / 2 - 1
    """
    more = (positives + negatives) / 2 - 1
    area_G = np.linspace(0.0, 1.0, 100_001)
    spread_G = 1 + more * (1 - area_G) / (2 - area_G) + more * area_G / (1 + area_G)
    variance_G = area_G * (1 - area_G) * spread_G / (positives * negatives)
    inside_G = area_G[(area - area_G) ** 2 <= Z * Z * variance_G]
    return min(area, float(inside_G.min(initial=area))), max(area, float(inside_G.max(initial=area)))


def calibration_curve(
    predicted: ArrayLike, observed: ArrayLike, *, low: float, bins: int = 10
) -> tuple[CalibrationBin, ...]:
    """Equal-width bins of `predicted` over [low, 1]; empty bins are left out. `observed` may be soft (in [0, 1])."""
    predicted_N = finite(predicted, "predictions")
    observed_N = _like(observed, "observations", len(predicted_N))
    edges = np.linspace(low, 1.0, bins + 1)
    bin_N = np.clip(np.searchsorted(edges, predicted_N, side="right") - 1, 0, bins - 1)
    curve = []
    for position in np.unique(bin_N):
        inside_N = bin_N == position
        count, mean = int(inside_N.sum()), float(predicted_N[inside_N].mean())
        seen = wilson(float(np.clip(observed_N[inside_N].sum(), 0, count)), count)
        start, stop = map(float, edges[position : position + 2])
        curve.append(CalibrationBin(low=start, high=stop, predicted=mean, observed=seen, count=count))
    return tuple(curve)


def expected_calibration_error(curve: Sequence[CalibrationBin]) -> float:
    """The mean distance between predicted and observed, bins weighted by their counts."""
    total = sum(part.count for part in curve)
    return sum(part.count * abs(part.predicted - part.observed.mean) for part in curve) / total


def _length_bias(pairs: ScoredPairs, gap_N: Floats, label_N: Floats, *, seed: int) -> LengthBias | None:
    if pairs.chosen_length is None or pairs.rejected_length is None:
        return None
    longer_N = _like(pairs.chosen_length, "chosen lengths", len(gap_N))
    longer_N = longer_N - _like(pairs.rejected_length, "rejected lengths", len(gap_N))
    differs_N = longer_N != 0
    if not differs_N.any():
        return None
    side_N, gap_N, label_N = np.sign(longer_N[differs_N]), gap_N[differs_N], label_N[differs_N]
    groups = (
        None if pairs.groups is None else [one for one, differs in zip(pairs.groups, differs_N, strict=True) if differs]
    )
    chosen_N = side_N * np.sign(label_N - 0.5)  # 1 where people chose the longer answer, 0 where they did not agree
    spread = math.sqrt(float((gap_N**2).sum()) * float((longer_N[differs_N] ** 2).sum()))
    return LengthBias(
        correlation=float((gap_N * longer_N[differs_N]).sum()) / spread if spread else 0.0,
        longer_wins=float(np.mean(0.5 + 0.5 * np.sign(gap_N) * side_N)),
        longer_wins_in_labels=float(np.mean(0.5 + (label_N - 0.5) * side_N)),
        longer_chosen=_accuracy(gap_N * side_N, chosen_N > 0, groups, seed=seed),
        shorter_chosen=_accuracy(-gap_N * side_N, chosen_N < 0, groups, seed=seed),
    )


def _accuracy(gap_N: Floats, among_N: Floats, groups: Sequence[Hashable] | None, *, seed: int) -> Interval | None:
    """The share of positive gaps, ties half, among some of the pairs; None where there are none."""
    if not among_N.any():
        return None
    kept = None if groups is None else [one for one, among in zip(groups, among_N, strict=True) if among]
    return bootstrap_rate(0.5 + 0.5 * np.sign(gap_N[among_N]), seed=seed, groups=kept)


def _share_below(values: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    below, through = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    shares: Floats = (below + through) / (2.0 * len(ordered))
    return shares


def _sigmoid(values: Floats) -> Floats:
    result: Floats = np.exp(-np.logaddexp(0, -values))
    return result


def _labels(values: ArrayLike, count: int) -> Floats:
    label_N = _like(values, "labels", count)
    if label_N.min() < 0 or label_N.max() > 1:
        raise DataError("labels must be probabilities in [0, 1]")
    return label_N


def _like(values: ArrayLike, name: str, count: int) -> Floats:
    array_N = finite(values, name)
    if len(array_N) != count:
        raise DataError(f"{count} scores came with {len(array_N)} {name}")
    return array_N
