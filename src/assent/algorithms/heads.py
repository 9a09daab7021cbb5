"""Bootstrapped reward heads on one trunk: where they disagree, the reward model does not know yet.

Each head h is a Bayesian logistic regression on differences of the trunk's features, d_p = phi(better) - phi(worse),
fitted to its own bootstrap of the judgements and pulled towards its own random prior:

    L_h(u) = sum_p n_hp [-w_p log s(d_p.u) - (1 - w_p) log s(-d_p.u)] + |u - a_h|^2 / (2 prior_spread^2)

with n_hp from a Poisson(1) bootstrap and a_h ~ N(0, prior_spread^2). The random priors keep the heads apart where no
judgement has been (Osband, Aslanides & Cassirer 2018, arXiv 1806.03335); L_h is convex and solved by Newton's method.

Legend: N completions, P pairs, D features, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assent.errors import DataError
from assent.seeds import numpy_rng

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
NEWTON_STEPS = 30
CLOSE_ENOUGH = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
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
    feature_ND: Floats, judged: Judged, *, heads: int = 12, prior_spread: float = 0.3, seed: int = 0
) -> Heads:
    """Fit `heads` heads to the judged pairs; features not judged only set the scale. DataError if none is finite."""
    if not np.isfinite(feature_ND).all():
        raise DataError("the features of some completions are not finite numbers")
    mean_D, spread_D = feature_ND.mean(axis=0), feature_ND.std(axis=0) + 1e-6
    standard_ND = (feature_ND - mean_D) / spread_D
    difference_PD = standard_ND[judged.better_P] - standard_ND[judged.worse_P]
    weights = []
    for head in range(heads):
        rng = numpy_rng(seed, "head", head)
        count_P = rng.poisson(1.0, size=len(difference_PD)).astype(np.float64)
        anchor_D: Floats = rng.standard_normal((feature_ND.shape[1],)) * prior_spread
        weights.append(fit_head(difference_PD, judged.probability_P, count_P, anchor_D, prior_spread=prior_spread))
    return Heads(weight_HD=np.stack(weights), mean_D=mean_D, spread_D=spread_D)


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
