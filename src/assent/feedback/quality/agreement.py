"""How far annotators agree: Krippendorff's alpha, Cohen's and Fleiss' kappa; with intervals, missing values allowed.

For unit u with m_u >= 2 labels, n_uv of value v, n_v = sum_u n_uv and n = sum_v n_v:

    alpha  = 1 - (n - 1) D_o / D_e,   D_o = sum_u sum_{c,k} n_uc (n_uk - [c = k]) d(c, k) / (m_u - 1),
             D_e = sum_{c,k} n_c n_k d(c, k)                         Krippendorff 2004, Content Analysis, chapter 11
             nominal d = [c != k], interval d = (c - k)^2
    kappa  = 1 - sum_{i != j} p_ij / sum_{i != j} p_i. p_.j          Cohen 1960, two annotators
    fleiss = (P - P_e) / (1 - P_e),   P = mean_u sum_v n_uv (n_uv - 1) / (m_u (m_u - 1)),  P_e = sum_v (n_v / n)^2
                                                                     Fleiss 1971; units may have different numbers m_u

All three are undefined where chance alone leaves nothing to disagree about (everybody always says the same). Units of
one group, such as the pairs of one item, are resampled together.
Shapes: N units, M annotators, V different values, L labels, R resamples, C columns that are summed (see `resampling`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from assent.errors import DataError
from assent.feedback.quality.resampling import Estimate, Floats, Integers, Resampling, estimate_from_sums, undefined

_ONE_VALUE = "only one value was ever given: nothing to disagree about"
_NO_OVERLAP = "no item has labels of two annotators"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueCounts:
    """How often each unit got each value; `group_N` says which units are resampled together (None: each by itself)."""

    counts_NV: Floats
    values_V: Floats
    group_N: Integers | None = None

    @staticmethod
    def of_labels(unit_L: Integers, label_L: Floats, *, group_N: Integers) -> ValueCounts:
        """From one row a label; there are as many units as `group_N` has entries."""
        values_V, place_L = np.unique(label_L, return_inverse=True)
        shape = (len(group_N), len(values_V))
        flat = np.bincount(unit_L * shape[1] + place_L, minlength=shape[0] * shape[1])
        return ValueCounts(counts_NV=flat.reshape(shape).astype(np.float64), values_V=values_V, group_N=group_N)

    def overlapping(self) -> ValueCounts:
        """The units with at least two labels."""
        kept_N = self.counts_NV.sum(axis=1) >= 2
        group_N = None if self.group_N is None else self.group_N[kept_N]
        return replace(self, counts_NV=self.counts_NV[kept_N], group_N=group_N)


def krippendorff_alpha(
    counts: ValueCounts, *, level: Literal["nominal", "interval"] = "nominal", resampling: Resampling | None = None
) -> Estimate:
    """Krippendorff's alpha; 1 is full agreement, 0 chance."""
    counts = counts.overlapping()
    counts_NV, given_N = counts.counts_NV, counts.counts_NV.sum(axis=1)
    if not len(counts_NV):
        return undefined(_NO_OVERLAP)
    if level == "nominal":
        apart_N = (given_N**2 - (counts_NV**2).sum(axis=1)) / (given_N - 1)
        sums_NC = np.column_stack([apart_N, counts_NV])

        def alpha(sums_RC: Floats) -> Floats:
            given_R = sums_RC[:, 1:].sum(axis=1)
            return _one_minus_ratio((given_R - 1) * sums_RC[:, 0], given_R**2 - (sums_RC[:, 1:] ** 2).sum(axis=1))
    else:
        centred_V = counts.values_V - (counts_NV @ counts.values_V).sum() / given_N.sum()
        first_N, second_N = counts_NV @ centred_V, counts_NV @ centred_V**2
        sums_NC = np.column_stack([(given_N * second_N - first_N**2) / (given_N - 1), given_N, first_N, second_N])

        def alpha(sums_RC: Floats) -> Floats:
            apart_R, given_R, first_R, second_R = sums_RC.T
            return _one_minus_ratio((given_R - 1) * apart_R, given_R * second_R - first_R**2)

    return estimate_from_sums(sums_NC, alpha, resampling, why_undefined=_ONE_VALUE, group_N=counts.group_N)


def fleiss_kappa(counts: ValueCounts, *, resampling: Resampling | None = None) -> Estimate:
    """Fleiss' kappa; units with one label are left out."""
    counts = counts.overlapping()
    counts_NV, given_N = counts.counts_NV, counts.counts_NV.sum(axis=1)
    if not len(counts_NV):
        return undefined(_NO_OVERLAP)
    alike_N = ((counts_NV**2).sum(axis=1) - given_N) / (given_N * (given_N - 1))

    def kappa(sums_RC: Floats) -> Floats:
        share_RV = sums_RC[:, 2:] / sums_RC[:, 2:].sum(axis=1, keepdims=True)
        return _one_minus_ratio(1 - sums_RC[:, 0] / sums_RC[:, 1], 1 - (share_RV**2).sum(axis=1))

    sums_NC = np.column_stack([alike_N, np.ones(len(alike_N)), counts_NV])
    return estimate_from_sums(sums_NC, kappa, resampling, why_undefined=_ONE_VALUE, group_N=counts.group_N)


def cohen_kappa(
    first: ArrayLike, second: ArrayLike, *, group_N: Integers | None = None, resampling: Resampling | None = None
) -> Estimate:
    """Cohen's kappa of two annotators over the units that both labelled (nan: no label)."""
    first_N, second_N = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first_N.ndim != 1 or first_N.shape != second_N.shape:
        raise DataError(f"two annotators label the same units, got shapes {first_N.shape} and {second_N.shape}")
    both_N = ~(np.isnan(first_N) | np.isnan(second_N))
    if not both_N.any():
        return undefined(_NO_OVERLAP)
    values_V, place_N = np.unique(np.concatenate([first_N[both_N], second_N[both_N]]), return_inverse=True)
    size = len(values_V)
    a_N, b_N = np.split(place_N, 2)

    def kappa(sums_RC: Floats) -> Floats:
        table_RVV = sums_RC.reshape(-1, size, size)
        total_R, alike_R = table_RVV.sum(axis=(1, 2)), np.trace(table_RVV, axis1=1, axis2=2)
        chance_R = total_R**2 - (table_RVV.sum(axis=1) * table_RVV.sum(axis=2)).sum(axis=1)
        return _one_minus_ratio(total_R * (total_R - alike_R), chance_R)

    groups_N = None if group_N is None else group_N[both_N]
    sums_NC = np.eye(size * size)[a_N * size + b_N]
    return estimate_from_sums(sums_NC, kappa, resampling, why_undefined=_ONE_VALUE, group_N=groups_N)


def _one_minus_ratio(above_R: Floats, below_R: Floats) -> Floats:
    """1 - above / below; nan where `below` is zero up to rounding."""
    fine_R = below_R > 1e-12 * np.maximum(1.0, np.abs(above_R))
    return np.where(fine_R, 1 - above_R / np.where(fine_R, below_R, 1.0), np.nan)
