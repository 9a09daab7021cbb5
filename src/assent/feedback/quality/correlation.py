"""Whether people put things in the same order: Kendall's tau-b and Spearman's rho, with intervals.

For two orderings x and y of N items, over pairs i < j with signs a = sign(x_i - x_j), b = sign(y_i - y_j):

    tau_b = sum a b / sqrt(sum a^2 * sum b^2)                            Kendall 1945
    rho   = Pearson correlation of the mid-ranks of x and y              Spearman 1904

Both are undefined where one ordering is a single tie. Missing values (nan) leave the item out of the pair of raters.
Shapes: N items, M raters, K candidates of one item, C cells of (x, y) values that occur, R resamples.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from assent.errors import DataError
from assent.feedback.quality.agreement import rated_by_both
from assent.feedback.quality.resampling import Estimate, Floats, Integers, Resampling, estimate, undefined

Kind = Literal["kendall", "spearman"]

CELLS_AT_MOST = 3000  # the time of tau-b grows with the square of the different (x, y) values
_TOO_FEW = "fewer than two items were put in order by both"
_TIED = "one of the two calls everything equal"


def rank_correlation(
    first: ArrayLike, second: ArrayLike, *, kind: Kind = "kendall", resampling: Resampling | None = None
) -> Estimate:
    """Kendall's tau-b or Spearman's rho of two raters over the items both judged; in [-1, 1].

    Beyond 3,000 different value pairs tau-b comes without an interval, because resampling would take minutes.
    """
    first_N, second_N = rated_by_both(first, second)
    if len(first_N) < 2:
        return undefined(_TOO_FEW, len(first_N))
    cell_N, x_C, y_C = _cells(first_N, second_N)
    if kind == "kendall" and len(x_C) > CELLS_AT_MOST and resampling is not None:
        plain = rank_correlation(first_N, second_N, kind=kind)
        reason = f"more than {CELLS_AT_MOST} different value pairs: no interval for tau-b; use Spearman's rho"
        return Estimate(value=plain.value, count=plain.count, reason=plain.reason or reason)
    order_N = np.argsort(cell_N, kind="stable")
    starts_C = np.searchsorted(cell_N[order_N], np.arange(len(x_C)))
    measure = _tau_b if kind == "kendall" else _rho

    def statistic(weight_RN: Floats) -> Floats:
        weight_RC = np.add.reduceat(weight_RN[:, order_N], starts_C, axis=1)
        return measure(weight_RC, x_C, y_C)

    return estimate(statistic, len(first_N), resampling, why_undefined=_TIED)


def ranking_agreement(ranks: ArrayLike, *, resampling: Resampling | None = None) -> Estimate:
    """Mean Kendall tau-b between two raters of one item, over items; `ranks` is [N items, M raters, K candidates].

    nan marks what a rater did not rank. Each item counts once: its tau-b is the mean over its pairs of raters for whom
    it is defined. The interval resamples items.
    """
    ranks_NMK = np.asarray(ranks, np.float64)
    if ranks_NMK.ndim != 3:
        raise DataError(f"rankings are items x raters x candidates, got {ranks_NMK.ndim} dimensions")
    sign_NMP = _signs(ranks_NMK)
    there_NMP = ~np.isnan(sign_NMP)
    sign_NMP = np.where(there_NMP, sign_NMP, 0.0)
    total_N, pairs_N = np.zeros(len(ranks_NMK)), np.zeros(len(ranks_NMK))
    for a, b in combinations(range(ranks_NMK.shape[1]), 2):
        both_NP = there_NMP[:, a] & there_NMP[:, b]
        spread_N = ((sign_NMP[:, a] ** 2 * both_NP).sum(1) * (sign_NMP[:, b] ** 2 * both_NP).sum(1)) ** 0.5
        defined_N = spread_N > 0
        total_N += np.where(
            defined_N, (sign_NMP[:, a] * sign_NMP[:, b] * both_NP).sum(1) / np.where(defined_N, spread_N, 1), 0
        )
        pairs_N += defined_N
    tau_N = total_N[pairs_N > 0] / pairs_N[pairs_N > 0]

    def statistic(weight_RN: Floats) -> Floats:
        return np.asarray((weight_RN @ tau_N) / weight_RN.sum(axis=1))

    return estimate(
        statistic, len(tau_N), resampling, why_undefined="no item was ranked by two people without a full tie"
    )


def _signs(ranks_NMK: Floats) -> Floats:
    first_P, second_P = np.triu_indices(ranks_NMK.shape[2], 1)
    return np.sign(ranks_NMK[:, :, first_P] - ranks_NMK[:, :, second_P])


def _cells(first_N: Floats, second_N: Floats) -> tuple[Integers, Integers, Integers]:
    """The cell of each item, and the places of each cell's two values among all values."""
    _, x_N = np.unique(first_N, return_inverse=True)
    values, y_N = np.unique(second_N, return_inverse=True)
    cells_C, cell_N = np.unique(x_N * len(values) + y_N, return_inverse=True)
    return cell_N, cells_C // len(values), cells_C % len(values)


def _tau_b(weight_RC: Floats, x_C: Integers, y_C: Integers) -> Floats:
    total_R = weight_RC.sum(axis=1)
    score_R = np.zeros(len(weight_RC))
    for start in range(0, len(x_C), 512):
        part = slice(start, start + 512)
        sign_CC = np.sign(x_C[:, None] - x_C[part]) * np.sign(y_C[:, None] - y_C[part])
        score_R += ((weight_RC @ sign_CC) * weight_RC[:, part]).sum(axis=1)
    loose_x_R = total_R**2 - (_grouped(weight_RC, x_C) ** 2).sum(axis=1)
    loose_y_R = total_R**2 - (_grouped(weight_RC, y_C) ** 2).sum(axis=1)
    return _ratio(score_R, np.sqrt(loose_x_R) * np.sqrt(loose_y_R))


def _rho(weight_RC: Floats, x_C: Integers, y_C: Integers) -> Floats:
    x_RC, y_RC = _middle_ranks(weight_RC, x_C), _middle_ranks(weight_RC, y_C)
    spread_R = (weight_RC * x_RC**2).sum(axis=1) * (weight_RC * y_RC**2).sum(axis=1)
    return _ratio((weight_RC * x_RC * y_RC).sum(axis=1), np.sqrt(spread_R))


def _middle_ranks(weight_RC: Floats, place_C: Integers) -> Floats:
    """Mid-ranks in [-1/2, 1/2] around their mean, which is 0 whatever the ties."""
    held_RV = _grouped(weight_RC, place_C)
    middle_RV = (np.cumsum(held_RV, axis=1) - held_RV / 2) / held_RV.sum(axis=1, keepdims=True) - 0.5
    return np.asarray(middle_RV[:, place_C])


def _grouped(weight_RC: Floats, place_C: Integers) -> Floats:
    order_C = np.argsort(place_C, kind="stable")
    starts = np.searchsorted(place_C[order_C], np.arange(int(place_C.max()) + 1))
    return np.asarray(np.add.reduceat(weight_RC[:, order_C], starts, axis=1))


def _ratio(above_R: Floats, below_R: Floats) -> Floats:
    fine_R = below_R > 1e-12
    return np.where(fine_R, np.clip(above_R / np.where(fine_R, below_R, 1.0), -1.0, 1.0), np.nan)
