"""Bootstrapped reward heads on one trunk: where they disagree, the reward model is uncertain.

Each head h is a Bayesian logistic regression on differences of the trunk's features, d_p = phi(better) - phi(worse),
fitted to its own bootstrap of the labels and pulled towards its own random prior:

    L_h(u) = sum_p n_hp [-w_p log s(d_p.u) - (1 - w_p) log s(-d_p.u)] + |u - a_h|^2 / (2 prior_spread^2)

with n_hp from a Poisson(1) bootstrap and a_h ~ N(0, prior_spread^2). The random priors keep the heads apart where there
are no labels (Osband, Aslanides & Cassirer 2018, arXiv 1806.03335); L_h is convex and solved by Newton's method.

`fit_reward` is the one head that a reward model keeps: no bootstrap, anchor 0, and the spread of the prior that makes
the labels likeliest under Laplace's approximation (MacKay 1992),

    log P(labels | spread) = -L(u*) - 1/2 log det(1 + spread^2 sum_p w_p (1 - w_p) d_p d_p'),   w_p = s(d_p.u*).

Legend: N completions, P pairs, D features, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assent.errors import DataError
from assent.seeds import numpy_rng

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
NEWTON_STEPS = 30
SPREADS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.25, 0.5)  # of the prior, tried in turn
CLOSE_ENOUGH = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadExamples:
    """Pairs by place: P(`better_P` wins over `worse_P`) is `probability_P`; the places are rows of the features."""

    better_P: Places
    worse_P: Places
    probability_P: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """An ensemble of linear reward heads over standardised features."""

    weight_HD: Floats
    mean_D: Floats
    spread_D: Floats

    def rewards(self, feature_ND: Floats) -> Floats:
        """The reward of every completion by every head, shape (heads, completions), in logits."""
        standard_ND = (feature_ND - self.mean_D) / self.spread_D
        rewards: Floats = self.weight_HD @ standard_ND.T
        return rewards


def fit_heads(
    feature_ND: Floats, judged: HeadExamples, *, heads: int = 12, prior_spread: float = 0.0, seed: int = 0
) -> Heads:
    """Fit `heads` heads to the judged pairs; features not judged only set the scale. DataError if one is not finite.

    A `prior_spread` of 0 takes the one that makes the labels likeliest.
    """
    difference_PD, spread_D = _differences(feature_ND, judged)
    spread = prior_spread or fit_with_prior(difference_PD, judged.probability_P)[1][1]
    inside_PQ, span_QD = _in_span(difference_PD)
    weights = []
    for head in range(heads):
        rng = numpy_rng(seed, "head", head)
        count_P = rng.poisson(1.0, size=len(difference_PD)).astype(np.float64)
        anchor_D: Floats = rng.standard_normal((feature_ND.shape[1],)) * spread
        anchor_Q = anchor_D if span_QD is None else span_QD @ anchor_D
        weight_Q = fit_head(inside_PQ, judged.probability_P, count_P, anchor_Q, prior_spread=spread)
        weights.append(weight_Q if span_QD is None else anchor_D + (weight_Q - anchor_Q) @ span_QD)
    return Heads(weight_HD=np.stack(weights), mean_D=feature_ND.mean(axis=0), spread_D=spread_D)


def _differences(feature_ND: Floats, judged: HeadExamples) -> tuple[Floats, Floats]:
    """Standardised differences of the judged pairs, and the spread of each feature. DataError if one is not finite."""
    if not np.isfinite(feature_ND).all():
        raise DataError("the features of some completions are not finite numbers")
    spread_D = feature_ND.std(axis=0) + 1e-6
    return (feature_ND[judged.better_P] - feature_ND[judged.worse_P]) / spread_D, spread_D


def _in_span(difference_PD: Floats) -> tuple[Floats, Floats | None]:
    """The differences in an orthonormal basis of their span, and the basis; as they are with more pairs than features.

    The priors know no directions: outside the span the best weights are those of the prior's mean.
    """
    if len(difference_PD) >= difference_PD.shape[1]:
        return difference_PD, None
    left_PQ, size_Q, span_QD = np.linalg.svd(difference_PD, full_matrices=False)
    return left_PQ * size_Q, span_QD


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedReward:
    """A linear reward: `weight_D` reads the features as they are; `evidence` is the log likelihood of its prior."""

    weight_D: Floats
    prior_spread: float
    evidence: float
    loss: float  # mean over pairs
    accuracy: float  # share of pairs put in the order that was judged likelier


def fit_reward(feature_ND: Floats, judged: HeadExamples) -> FittedReward:
    """The reward head of judged pairs, with the prior that explains them best. DataError if a feature is not finite."""
    difference_PD, spread_D = _differences(feature_ND, judged)
    weight_D, best = fit_with_prior(difference_PD, judged.probability_P)
    logit_P = difference_PD @ weight_D
    misfit_P = np.logaddexp(0.0, logit_P) - judged.probability_P * logit_P
    right_P = np.where(logit_P > 0, judged.probability_P, 1 - judged.probability_P) > 0.5
    return FittedReward(
        weight_D=weight_D / spread_D, prior_spread=best[1], evidence=best[0], loss=float(misfit_P.mean()),
        accuracy=float(right_P.mean()),
    )  # fmt: skip


def fit_with_prior(
    difference_PD: Floats, probability_P: Floats, *, spreads: Sequence[float] = SPREADS
) -> tuple[Floats, tuple[float, float]]:
    """The weights under the likeliest of the priors, and its (evidence, spread)."""
    difference_PD, span_QD = _in_span(difference_PD)
    ones_P, zero_D = np.ones(len(difference_PD)), np.zeros(difference_PD.shape[1])
    best: tuple[float, float, Floats] | None = None
    for spread in spreads:
        weight_D = fit_head(difference_PD, probability_P, ones_P, zero_D, prior_spread=spread)
        found = evidence(difference_PD, probability_P, weight_D, spread)
        if best is None or found > best[0]:
            best = (found, spread, weight_D)
    assert best is not None, "no prior was given"
    return (best[2] if span_QD is None else best[2] @ span_QD), best[:2]


def evidence(difference_PD: Floats, probability_P: Floats, weight_D: Floats, prior_spread: float) -> float:
    """Laplace's approximation of log P(labels | prior), at the fitted weights."""
    logit_P = difference_PD @ weight_D
    chance_P = 1.0 / (1.0 + np.exp(-np.clip(logit_P, -60, 60)))
    weighed_PD = difference_PD * np.sqrt(chance_P * (1 - chance_P))[:, None] * prior_spread
    small = len(weighed_PD) < weighed_PD.shape[1]  # both products have the same determinant
    product = weighed_PD @ weighed_PD.T if small else weighed_PD.T @ weighed_PD
    _, half = np.linalg.slogdet(product + np.eye(len(product)))
    fit = np.logaddexp(0.0, logit_P) - probability_P * logit_P
    return float(-fit.sum() - 0.5 * (weight_D**2).sum() / prior_spread**2 - 0.5 * half)


def fit_head(
    difference_PD: Floats, probability_P: Floats, count_P: Floats, anchor_D: Floats, *, prior_spread: float
) -> Floats:
    """The minimum of L_h by Newton's method with step halving."""
    weight_D = anchor_D.copy()
    precision = 1.0 / prior_spread**2

    def loss(at_D: Floats) -> float:
        logit_P = difference_PD @ at_D
        misfit_P = np.logaddexp(0.0, logit_P) - probability_P * logit_P
        return float(count_P @ misfit_P + 0.5 * precision * ((at_D - anchor_D) ** 2).sum())

    now = loss(weight_D)
    for _ in range(NEWTON_STEPS):
        chance_P = 1.0 / (1.0 + np.exp(-np.clip(difference_PD @ weight_D, -60, 60)))
        slope_D = difference_PD.T @ (count_P * (chance_P - probability_P)) + precision * (weight_D - anchor_D)
        curvature_P = count_P * chance_P * (1.0 - chance_P)
        curvature_DD = (difference_PD * curvature_P[:, None]).T @ difference_PD + precision * np.eye(len(anchor_D))
        step_D = np.linalg.solve(curvature_DD, slope_D)
        size = 1.0
        while (then := loss(weight_D - size * step_D)) > now and size > 1e-4:
            size /= 2
        weight_D = weight_D - size * step_D
        if now - then < CLOSE_ENOUGH * max(1.0, abs(now)):
            break
        now = then
    return weight_D
