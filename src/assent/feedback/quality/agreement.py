"""How far people agree: Krippendorff's alpha, Cohen's and Fleiss' kappa; with intervals, missing values allowed.

A table holds N items x M raters, nan where somebody did not judge. For item u with m_u >= 2 values, n_uv of value v,
n_v = sum_u n_uv and n = sum_v n_v:

    alpha  = 1 - (n - 1) D_o / D_e,   D_o = sum_u sum_{c,k} n_uc (n_uk - [c = k]) d(c, k) / (m_u - 1),
             D_e = sum_{c,k} n_c n_k d(c, k)                         Krippendorff 2004, Content Analysis, chapter 11
             nominal d = [c != k], interval d = (c - k)^2, ordinal d = (r_c - r_k)^2, r_c = n_c / 2 + sum_{g < c} n_g
    kappa  = 1 - sum_ij w_ij p_ij / sum_ij w_ij p_i. p_.j            Cohen 1960, 1968; w = [i != j], |i - j|, (i - j)^2
             with i and j the places of the values in their order
    fleiss = (P - P_e) / (1 - P_e),   P = mean_u sum_v n_uv (n_uv - 1) / (m_u (m_u - 1)),  P_e = sum_v (n_v / n)^2
                                                                     Fleiss 1971; items may have different numbers m_u

All three are undefined where chance alone leaves nothing to disagree about (everybody always says the same).
Shapes: N items, M raters, V different values, R resamples (see `resampling`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from assent.errors import DataError
from assent.feedback.quality.resampling import Estimate, Floats, Integers, Resampling, Statistic, estimate, undefined

Level = Literal["nominal", "ordinal", "interval"]
Weights = Literal["plain", "linear", "quadratic"]

_ONE_VALUE = "only one value was ever given: nothing to disagree about"
_NO_OVERLAP = "no item was judged by two people"
_TINY = 1e-12


def krippendorff_alpha(table: ArrayLike, *, level: Level = "nominal", resampling: Resampling | None = None) -> Estimate:
    """Krippendorff's alpha of a table of N items x M raters (nan: not answered); 1 is full agreement, 0 chance."""
    counts_NV, values_V = value_counts(table)
    raters_N = counts_NV.sum(axis=1)
    counts_NV, raters_N = counts_NV[raters_N >= 2], raters_N[raters_N >= 2]
    if not len(raters_N):
        return undefined(_NO_OVERLAP)
    statistic = alpha_statistic(counts_NV, raters_N, values_V, level)
    return estimate(statistic, len(raters_N), resampling, why_undefined=_ONE_VALUE)


def alpha_statistic(counts_NV: Floats, raters_N: Floats, values_V: Floats, level: Level) -> Statistic:
    """Alpha as a function of item weights; every item must have at least two judgements."""
    if level == "nominal":
        apart_N = (raters_N**2 - (counts_NV**2).sum(axis=1)) / (raters_N - 1)

        def nominal(weight_RN: Floats) -> Floats:
            total_RV = weight_RN @ counts_NV
            total_R = total_RV.sum(axis=1)
            return _one_minus_ratio((total_R - 1) * (weight_RN @ apart_N), total_R**2 - (total_RV**2).sum(axis=1))

        return nominal

    def squared(weight_RN: Floats) -> Floats:
        total_RV = weight_RN @ counts_NV
        total_R = total_RV.sum(axis=1)
        if level == "ordinal":  # a value's place among all that were given; scaled to keep sums exact
            place_RV = (np.cumsum(total_RV, axis=1) - total_RV / 2) / total_R[:, None]
        else:
            place_RV = np.broadcast_to(values_V, total_RV.shape)
        centre_R = (total_RV * place_RV).sum(axis=1) / total_R
        place_RV = place_RV - centre_R[:, None]
        sum_RN, square_RN = place_RV @ counts_NV.T, (place_RV**2) @ counts_NV.T
        apart_R = (weight_RN * (2 * (raters_N * square_RN - sum_RN**2) / (raters_N - 1))).sum(axis=1)
        chance_R = 2 * (total_R * (total_RV * place_RV**2).sum(axis=1) - (total_RV * place_RV).sum(axis=1) ** 2)
        return _one_minus_ratio((total_R - 1) * apart_R, chance_R)

    return squared


def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    *,
    weights: Weights = "plain",
    values: ArrayLike | None = None,
    resampling: Resampling | None = None,
) -> Estimate:
    """Cohen's kappa of two raters over the items both judged (nan: not answered).

    `values` are all values there are, in their order; by default those that either rater gave. Weighted kappa measures
    distances between places in that order. Raises DataError for a value that is not in `values`.
    """
    first_N, second_N = rated_by_both(first, second)
    if not len(first_N):
        return undefined(_NO_OVERLAP)
    values_V = np.unique(np.concatenate([first_N, second_N])) if values is None else np.asarray(values, np.float64)
    a_N, b_N = _places(first_N, values_V), _places(second_N, values_V)
    apart_VV = np.abs(np.subtract.outer(np.arange(len(values_V)), np.arange(len(values_V)))).astype(np.float64)
    if weights == "plain":
        apart_VV = (apart_VV > 0).astype(np.float64)
    elif weights == "quadratic":
        apart_VV = apart_VV**2
    first_NV, second_NV = np.eye(len(values_V))[a_N], np.eye(len(values_V))[b_N]
    apart_N = apart_VV[a_N, b_N]

    def statistic(weight_RN: Floats) -> Floats:
        chance_R = ((weight_RN @ first_NV @ apart_VV) * (weight_RN @ second_NV)).sum(axis=1)
        return _one_minus_ratio(weight_RN.sum(axis=1) * (weight_RN @ apart_N), chance_R)

    return estimate(statistic, len(a_N), resampling, why_undefined=_ONE_VALUE)


def fleiss_kappa(table: ArrayLike, *, resampling: Resampling | None = None) -> Estimate:
    """Fleiss' kappa of a table of N items x M raters (nan: not answered); items with one judgement are left out."""
    counts_NV, _ = value_counts(table)
    raters_N = counts_NV.sum(axis=1)
    counts_NV, raters_N = counts_NV[raters_N >= 2], raters_N[raters_N >= 2]
    if not len(raters_N):
        return undefined(_NO_OVERLAP)
    alike_N = ((counts_NV**2).sum(axis=1) - raters_N) / (raters_N * (raters_N - 1))

    def statistic(weight_RN: Floats) -> Floats:
        share_RV = weight_RN @ counts_NV
        share_RV = share_RV / share_RV.sum(axis=1, keepdims=True)
        return _one_minus_ratio(1 - weight_RN @ alike_N / weight_RN.sum(axis=1), 1 - (share_RV**2).sum(axis=1))

    return estimate(statistic, len(raters_N), resampling, why_undefined=_ONE_VALUE)


def pairwise_agreement(table: ArrayLike, *, resampling: Resampling | None = None) -> Estimate:
    """The chance that two different raters of one item agree, each pair of judgements counted alike; in [0, 1]."""
    counts_NV, _ = value_counts(table)
    raters_N = counts_NV.sum(axis=1)
    pairs_N = raters_N * (raters_N - 1)
    alike_N = (counts_NV * (counts_NV - 1)).sum(axis=1)
    alike_N, pairs_N = alike_N[pairs_N > 0], pairs_N[pairs_N > 0]

    def statistic(weight_RN: Floats) -> Floats:
        return np.asarray((weight_RN @ alike_N) / (weight_RN @ pairs_N))

    return estimate(statistic, len(pairs_N), resampling, why_undefined=_NO_OVERLAP)


def value_counts(table: ArrayLike) -> tuple[Floats, Floats]:
    """How often each item got each value [N, V], and the values in ascending order [V]."""
    table_NM = np.asarray(table, dtype=np.float64)
    if table_NM.ndim != 2:
        raise DataError(f"a table of judgements has items x raters, got {table_NM.ndim} dimensions")
    if np.isinf(table_NM).any():
        raise DataError("a table of judgements holds an infinite value", now="Use nan for what was not answered.")
    item_J, rater_J = np.nonzero(~np.isnan(table_NM))
    values_V, place_J = np.unique(table_NM[item_J, rater_J], return_inverse=True)
    shape = (len(table_NM), len(values_V))
    flat = np.bincount(item_J * shape[1] + place_J, minlength=shape[0] * shape[1]) if shape[1] else np.zeros(0)
    return flat.reshape(shape).astype(np.float64), values_V


def rated_by_both(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    first_N, second_N = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first_N.ndim != 1 or first_N.shape != second_N.shape:
        raise DataError(f"two raters judge the same items, got shapes {first_N.shape} and {second_N.shape}")
    both_N = ~(np.isnan(first_N) | np.isnan(second_N))
    return first_N[both_N], second_N[both_N]


def _places(given_N: Floats, values_V: Floats) -> Integers:
    order_V = np.argsort(values_V)
    found_N = np.minimum(np.searchsorted(values_V, given_N, sorter=order_V), len(values_V) - 1)
    place_N = order_V[found_N]
    strange_N = values_V[place_N] != given_N
    if strange_N.any():
        raise DataError(f"the value {given_N[strange_N][0]:g} is not among the values {values_V.tolist()}")
    return np.asarray(place_N, np.int64)


def _one_minus_ratio(above_R: Floats, below_R: Floats) -> Floats:
    """1 - above / below; nan where `below` is zero up to rounding."""
    fine_R = below_R > _TINY * np.maximum(1.0, np.abs(above_R))
    return np.where(fine_R, 1 - above_R / np.where(fine_R, below_R, 1.0), np.nan)
