"""Bradley-Terry strengths with ties: Davidson's likelihood and its maximum, many tables of counts at once.

Davidson's model (1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments"):
with strengths s_i and d = s_i - s_j (natural logarithms of odds),
    P(i beats j) : P(tie) : P(j beats i)  =  exp(d/2) : nu : exp(-d/2).
The log-likelihood is concave in (s, log nu) and is climbed by Newton's method with step halving. It has a finite
maximum only where everybody has beaten (or tied with) everybody else along some chain (Ford 1957).

Legend: R tables (resamples), M models, P parameters (M strengths and log nu).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS = 60
_LARGEST_STEP = 2.0


def fit(wins_RMM: Floats, ties_RMM: Floats, *, ridge: float = 0.0) -> tuple[Floats, Floats]:
    """Strengths (R, M; mean zero) and nu (R) of greatest likelihood, by Newton's method.

    `wins[r, i, j]` counts i over j, `ties` is symmetric. Without a ridge the caller must know that the maximum is
    finite. Without ties nu is 0; with nothing but ties all strengths are equal and nu is infinite.
    """
    rows, size = wins_RMM.shape[0], wins_RMM.shape[1]
    tied_R, decided_R = ties_RMM.sum((1, 2)) > 0, wins_RMM.sum((1, 2)) > 0
    free_RP = np.ones((rows, size + 1), dtype=np.bool_)
    free_RP[:, size] = tied_R & decided_R
    free_RP[~decided_R, :size] = False
    point_RP = np.zeros((rows, size + 1))
    fixed_nu_R = np.where(tied_R, np.where(decided_R, np.nan, np.inf), 0.0)
    likelihood = _Likelihood(wins_RMM, ties_RMM, tied_R & decided_R, ridge)
    value_R = likelihood.value(point_RP)
    for _ in range(_STEPS):
        step_RP = likelihood.newton_step(point_RP, free_RP)
        largest = np.abs(step_RP).max(axis=1, keepdims=True)
        step_RP *= np.minimum(1.0, _LARGEST_STEP / np.maximum(largest, 1e-300))
        if largest.max(initial=0.0) < 1e-10:
            break
        for _ in range(8):
            new_R = likelihood.value(point_RP + step_RP)
            worse_R = new_R < value_R - 1e-12 * np.abs(value_R)
            if not worse_R.any():
                break
            step_RP[worse_R] /= 2
        point_RP += step_RP
        value_R = likelihood.value(point_RP)
    strength_RM = point_RP[:, :size] - point_RP[:, :size].mean(axis=1, keepdims=True)
    nu_R = np.where(np.isnan(fixed_nu_R), np.exp(point_RP[:, size]), fixed_nu_R)
    return strength_RM, nu_R


class _Likelihood:
    """Davidson's log-likelihood of R tables of counts, with its derivatives."""

    def __init__(self, wins_RMM: Floats, ties_RMM: Floats, with_ties_R: NDArray[np.bool_], ridge: float) -> None:
        size = wins_RMM.shape[1]
        self._upper = np.triu(np.ones((size, size)), 1)
        self._met_RMM = wins_RMM + wins_RMM.transpose(0, 2, 1) + ties_RMM
        self._ties_R = ties_RMM.sum((1, 2)) / 2
        self._score_RM = (wins_RMM.sum(2) + ties_RMM.sum(2) / 2) - self._met_RMM.sum(2) / 2
        self._with_ties_R, self._ridge = with_ties_R, ridge

    def value(self, point_RP: Floats) -> Floats:
        """The log-likelihood less a constant: sum_i s_i (wins_i + ties_i / 2 - met_i / 2) + T log nu - sum log Z."""
        strength_RM, log_nu_R = point_RP[:, :-1], point_RP[:, -1]
        log_z_RMM, _, _ = self._z(strength_RM, log_nu_R)
        gained_R = (strength_RM * self._score_RM).sum(1) + np.where(self._with_ties_R, self._ties_R * log_nu_R, 0.0)
        lost_R = (self._met_RMM * log_z_RMM * self._upper).sum((1, 2))
        shrunk_R: Floats = gained_R - lost_R - self._ridge / 2 * (point_RP**2).sum(1)
        return shrunk_R

    def newton_step(self, point_RP: Floats, free_RP: NDArray[np.bool_]) -> Floats:
        """-H^-1 g over the free parameters; equal shifts of all strengths are pinned by a small quadratic."""
        strength_RM, log_nu_R = point_RP[:, :-1], point_RP[:, -1]
        _, half_RMM, tie_RMM = self._z(strength_RM, log_nu_R)
        rows, size = strength_RM.shape
        gradient_RP = np.empty((rows, size + 1))
        gradient_RP[:, :size] = self._score_RM - (self._met_RMM * half_RMM).sum(2)
        gradient_RP[:, size] = self._ties_R - (self._met_RMM * tie_RMM * self._upper).sum((1, 2))
        gradient_RP -= self._ridge * point_RP
        curve_RMM = self._met_RMM * ((1 - tie_RMM) / 4 - half_RMM**2)  # variance of (i won - j won) / 2
        cross_RM = (self._met_RMM * -half_RMM * tie_RMM).sum(2)
        minus_RPP = np.zeros((rows, size + 1, size + 1))
        minus_RPP[:, :size, :size] = -curve_RMM
        diagonal = np.arange(size)
        minus_RPP[:, diagonal, diagonal] = curve_RMM.sum(2)
        minus_RPP[:, :size, size] = minus_RPP[:, size, :size] = cross_RM
        minus_RPP[:, size, size] = (self._met_RMM * tie_RMM * (1 - tie_RMM) * self._upper).sum((1, 2))
        minus_RPP[:, :size, :size] += 1.0 / size  # pins the mean: the likelihood does not change along it
        minus_RPP[:, np.arange(size + 1), np.arange(size + 1)] += self._ridge + 1e-12
        fixed_RPP = ~(free_RP[:, :, None] & free_RP[:, None, :])
        minus_RPP[fixed_RPP] = 0.0
        minus_RPP[:, np.arange(size + 1), np.arange(size + 1)] += np.where(free_RP, 0.0, 1.0)
        step_RP: Floats = np.linalg.solve(minus_RPP, np.where(free_RP, gradient_RP, 0.0)[:, :, None])[:, :, 0]
        return step_RP

    def _z(self, strength_RM: Floats, log_nu_R: Floats) -> tuple[Floats, Floats, Floats]:
        """log Z, (P(i wins) - P(j wins)) / 2 and P(tie) for every ordered pair, without overflow."""
        half_RMM = (strength_RM[:, :, None] - strength_RM[:, None, :]) / 2
        log_nu_R11 = np.where(self._with_ties_R, log_nu_R, -np.inf)[:, None, None]
        log_z_RMM = np.logaddexp(np.logaddexp(half_RMM, -half_RMM), log_nu_R11)
        won_RMM, lost_RMM = np.exp(half_RMM - log_z_RMM), np.exp(-half_RMM - log_z_RMM)
        return log_z_RMM, (won_RMM - lost_RMM) / 2, np.exp(log_nu_R11 - log_z_RMM)
