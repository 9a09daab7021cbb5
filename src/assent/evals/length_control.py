"""Length-controlled win rates: how often answers would win if both were equally long.

P(win) = sigmoid(theta + phi tanh(d / std(d))),  d = length of the answer less that of the other;  rate = sigmoid(theta)

The length term of Dubois et al. (2024), "Length-Controlled AlpacaEval" (arXiv 2404.04475). Their term for the
difficulty of an instruction is left out: it is estimated from many models on one set of prompts. A normal
prior of variance 10 keeps the fit finite where every prompt is won.

Legend: N judged prompts, G groups, R resamples, P = 2 parameters.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from assent.evals.intervals import Floats, Interval, expanded_tail, finite
from assent.seeds import numpy_rng

_PRIOR_PRECISION = 0.1
_STEPS = 25  # of Newton's method; it converges in less than ten
_RESAMPLES = 500


def length_controlled_rate(
    preferences: ArrayLike, lengths: ArrayLike, against: ArrayLike, *, seed: int, groups: Sequence[Hashable]
) -> Interval:
    """From P(the answer is better), which may be soft, and the lengths of both answers; a bootstrap over `groups`."""
    preferred_N, difference_N = (
        finite(preferences, "preferences"),
        finite(lengths, "lengths") - finite(against, "lengths"),
    )
    scale = float(difference_N.std())
    features_NP = np.stack([np.ones_like(difference_N), np.tanh(difference_N / (scale or 1.0))], axis=1)
    order = {label: place for place, label in enumerate(dict.fromkeys(groups))}
    place_N, count = np.array([order[label] for label in groups]), len(order)
    whole = float(_rates(preferred_N, features_NP, np.ones((1, len(preferred_N))))[0])
    if count < 2:
        return Interval(mean=whole, low=whole, high=whole, n=count)
    picked_RG = numpy_rng(seed, "length control").multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    rates_R = _rates(preferred_N, features_NP, picked_RG[:, place_N].astype(np.float64))
    tail = expanded_tail(count)
    low, high = np.quantile(rates_R, [tail, 1 - tail])
    return Interval(mean=whole, low=min(float(low), whole), high=max(float(high), whole), n=count)


def _rates(preferred_N: Floats, features_NP: Floats, weight_RN: Floats) -> Floats:
    """sigmoid(theta) of every weighting, by Newton's method."""
    beta_RP = np.zeros((len(weight_RN), 2))
    for _ in range(_STEPS):
        p_RN = 0.5 + 0.5 * np.tanh(beta_RP @ features_NP.T / 2)
        gradient_RP = (weight_RN * (preferred_N - p_RN)) @ features_NP - _PRIOR_PRECISION * beta_RP
        curvature_RPP = np.einsum("rn,np,nq->rpq", weight_RN * p_RN * (1 - p_RN), features_NP, features_NP)
        curvature_RPP += _PRIOR_PRECISION * np.eye(2)
        beta_RP += np.linalg.solve(curvature_RPP, gradient_RP[..., None])[..., 0]
    rate_R: Floats = 0.5 + 0.5 * np.tanh(beta_RP[:, 0] / 2)
    return rate_R
