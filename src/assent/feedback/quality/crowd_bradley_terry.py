"""Scores of completions and reliability of annotators from comparisons alone: Bradley-Terry for crowds.

Candidate i has a score s_i; annotator k compares i (shown first) with j; d = s_i - s_j, sg the logistic function:

    crowd    P(k says i) = eta_k sg(d) + (1 - eta_k) sg(-d)              Chen et al. 2013, "Pairwise ranking aggregation
             eta < 1/2: says the opposite                                 in a crowdsourced setting", WSDM
    habit    P(k says i) = gamma_k sg(d) + (1 - gamma_k) h_k             Bugakova et al. 2019, "Aggregation of pairwise
             looks with probability gamma, else takes the first with h    comparisons with reduction of biases"
    plain    P(k says i) = sg(d): eta_k = 1 for all                       Bradley & Terry 1952
    penalty  - lambda sum_i (log sg(s_i) + log sg(-s_i))                  a draw with a candidate of score 0

EM with z = "answered by the score": E: r_v = P(z | answer); M: eta = mean r (with pseudo answers), h = share of first
among the rest, and the scores by ascent under a quadratic bound of the logistic likelihood (Boehning & Lindsay 1988):
s <- s + (L / 4 + lambda I / 2)^-1 gradient, L the Laplacian of the graph of comparisons. No step lowers the objective.
Candidates are compared within groups (the completions of one prompt), so L is inverted group by group, all at once.

Shapes: V votes, S candidates, M annotators, G groups of at most K candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from assent.errors import ConfigError, DataError
from assent.feedback.quality.resampling import Floats, Integers, summed

Kind = Literal["crowd", "habit", "plain"]
_SMALLEST = 1e-300
_ASCENTS = 3  # steps of the scores for each E-step
_FIRST_ASCENTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdSettings:
    """`penalty` is lambda; `prior_answers` pseudo answers, `prior_accuracy` of them right, steady each annotator."""

    kind: Kind = "crowd"
    penalty: float = 0.5
    prior_answers: float = 4.0
    prior_accuracy: float = 0.8
    iterations: int = 500
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        if self.kind not in ("crowd", "habit", "plain"):
            raise ConfigError(f'kind is "crowd", "habit" or "plain", got "{self.kind}"')
        if self.penalty <= 0 or self.iterations < 1 or self.prior_answers < 0 or not 0 < self.prior_accuracy < 1:
            raise ConfigError(
                "Bradley-Terry needs penalty > 0, iterations >= 1, prior_answers >= 0 and 0 < prior_accuracy < 1",
                now="Use a small penalty such as 1e-4 for nearly none; without any, scores may be infinite.",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparisons:
    """V answers: `person_V` compared `first_V` with `second_V`; `won_V` is 1 if first was better, 0 if not, 1/2 a tie.

    `group_S` says to which group each candidate belongs; comparisons stay within groups.
    """

    first_V: Integers
    second_V: Integers
    person_V: Integers
    won_V: Floats
    group_S: Integers
    people: int

    def __post_init__(self) -> None:
        if len(self.first_V) and (self.group_S[self.first_V] != self.group_S[self.second_V]).any():
            raise DataError("a comparison crosses groups", now="Give candidates that are compared one group.")
        if (self.first_V == self.second_V).any():
            raise DataError("a candidate is compared with itself")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrowdFit:
    """`score_S` in logits; `reliability_M` is eta (or gamma, in [0, 1]); `first_habit_M` is h (1/2 without the habit).

    `objective` is the penalised log-likelihood after each iteration; it never falls.
    """

    score_S: Floats
    reliability_M: Floats
    first_habit_M: Floats
    answers_M: Floats
    objective: tuple[float, ...] = field(repr=False)

    def probability(self, first_P: Integers, second_P: Integers) -> Floats:
        """P(first is better) by the scores, whoever judges."""
        return logistic(self.score_S[first_P] - self.score_S[second_P])


def crowd_bradley_terry(
    answers: Comparisons, settings: CrowdSettings | None = None, *, reliability_M: Floats | None = None
) -> CrowdFit:
    """Fit scores and annotators together; see the module for the models. A given `reliability_M` stays as it is."""
    settings = settings or CrowdSettings()
    votes, score_S = _decided(answers), np.zeros(len(answers.group_S))
    ascent = _Ascent.over(votes, answers.group_S, settings)
    start = 1.0 if settings.kind == "plain" else settings.prior_accuracy
    eta_M = np.full(answers.people, start) if reliability_M is None else reliability_M
    habit_M = np.full(answers.people, 0.5)
    count_M = summed(votes.person_V, votes.weight_V, answers.people)
    score_S = ascent.climb(score_S, np.ones(len(votes.weight_V)), steps=_FIRST_ASCENTS)
    objective: list[float] = []
    for _ in range(settings.iterations):
        chance_V, part_V = _chance(votes, score_S, eta_M, habit_M, settings.kind)
        by_score_V = part_V / chance_V
        if settings.kind != "plain" and reliability_M is None:
            eta_M = _reliability(votes, by_score_V, count_M, settings)
        if settings.kind == "habit":
            otherwise_V = (1 - by_score_V) * votes.weight_V  # the first's share, with one pseudo answer each way
            first_M = summed(votes.person_V, otherwise_V * votes.first_won_V, answers.people)
            habit_M = (first_M + 1) / (summed(votes.person_V, otherwise_V, answers.people) + 2)
        score_S = ascent.climb(score_S, by_score_V, steps=_ASCENTS)
        objective.append(_objective(votes, score_S, eta_M, habit_M, settings))
        gain = objective[-1] - objective[-2] if len(objective) > 1 else math.inf
        if gain < settings.tolerance * max(1, len(answers.won_V)):
            break
    found = {"score_S": score_S, "reliability_M": eta_M, "first_habit_M": habit_M, "answers_M": count_M}
    return CrowdFit(**found, objective=tuple(objective))


def logistic(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit)) without overflow; nan stays nan."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(-np.logaddexp(0.0, -logit)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Decided:
    """Answers with a winner; a tie is two of them with half the weight."""

    winner_V: Integers
    loser_V: Integers
    person_V: Integers
    first_won_V: Floats
    weight_V: Floats


def _decided(answers: Comparisons) -> _Decided:
    weight_V = np.concatenate([answers.won_V, 1 - answers.won_V])
    kept = np.flatnonzero(weight_V > 0)
    both = np.concatenate
    return _Decided(
        winner_V=both([answers.first_V, answers.second_V])[kept],
        loser_V=both([answers.second_V, answers.first_V])[kept],
        person_V=both([answers.person_V, answers.person_V])[kept],
        first_won_V=both([np.ones(len(answers.won_V)), np.zeros(len(answers.won_V))])[kept],
        weight_V=weight_V[kept],
    )


def _chance(votes: _Decided, score_S: Floats, eta_M: Floats, habit_M: Floats, kind: Kind) -> tuple[Floats, Floats]:
    """P(answer) and the part of it that follows the score."""
    better_V = logistic(score_S[votes.winner_V] - score_S[votes.loser_V])
    eta_V, other_V = eta_M[votes.person_V], 1 - better_V
    if kind == "habit":
        habit_V = habit_M[votes.person_V]
        other_V = np.where(votes.first_won_V > 0, habit_V, 1 - habit_V)
    return np.maximum(eta_V * better_V + (1 - eta_V) * other_V, _SMALLEST), eta_V * better_V


def _log_likelihood(votes: _Decided, score_S: Floats, eta_M: Floats, habit_M: Floats, kind: Kind) -> float:
    return float((votes.weight_V * np.log(_chance(votes, score_S, eta_M, habit_M, kind)[0])).sum())


def _objective(votes: _Decided, score_S: Floats, eta_M: Floats, habit_M: Floats, settings: CrowdSettings) -> float:
    value = _log_likelihood(votes, score_S, eta_M, habit_M, settings.kind)
    value -= settings.penalty * float((np.logaddexp(0, -score_S) + np.logaddexp(0, score_S)).sum())
    if settings.kind != "plain":
        right = settings.prior_answers * settings.prior_accuracy
        sure_M = np.clip(eta_M, _SMALLEST, 1 - 1e-16)
        value += float((right * np.log(sure_M) + (settings.prior_answers - right) * np.log1p(-sure_M)).sum())
    if settings.kind == "habit":
        value += float((np.log(habit_M) + np.log1p(-habit_M)).sum())
    return value


def _reliability(votes: _Decided, by_score_V: Floats, count_M: Floats, settings: CrowdSettings) -> Floats:
    right_M = summed(votes.person_V, by_score_V * votes.weight_V, len(count_M))
    right_M += settings.prior_answers * settings.prior_accuracy
    total_M = count_M + settings.prior_answers
    return np.where(total_M > 0, right_M / np.where(total_M > 0, total_M, 1), settings.prior_accuracy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ascent:
    """Steps of the scores that cannot overshoot: `inverse_GKK` inverts the bound of the curvature in each group."""

    votes: _Decided
    settings: CrowdSettings
    group_S: Integers
    place_S: Integers
    inverse_GKK: Floats

    @staticmethod
    def over(votes: _Decided, group_S: Integers, settings: CrowdSettings) -> _Ascent:
        """The bound for these answers, whatever their parts that follow the score."""
        _, group_S = np.unique(group_S, return_inverse=True)
        sizes_G = np.bincount(group_S)
        order_S = np.argsort(group_S, kind="stable")
        place_S = np.empty(len(group_S), np.int64)
        place_S[order_S] = np.arange(len(group_S)) - np.repeat(np.cumsum(sizes_G) - sizes_G, sizes_G)
        largest = int(sizes_G.max())
        curvature_GKK = np.zeros((len(sizes_G), largest, largest))
        group_V, a_V, b_V = group_S[votes.winner_V], place_S[votes.winner_V], place_S[votes.loser_V]
        for row_V, column_V, sign in ((a_V, a_V, 1), (b_V, b_V, 1), (a_V, b_V, -1), (b_V, a_V, -1)):
            np.add.at(curvature_GKK, (group_V, row_V, column_V), sign * votes.weight_V / 4)
        curvature_GKK += settings.penalty / 2 * np.eye(largest)
        inverse_GKK = np.linalg.inv(curvature_GKK).astype(np.float64)
        return _Ascent(votes=votes, settings=settings, group_S=group_S, place_S=place_S, inverse_GKK=inverse_GKK)

    def climb(self, score_S: Floats, by_score_V: Floats, *, steps: int) -> Floats:
        """The scores after so many steps; none lowers the objective of the M-step."""
        votes, size = self.votes, len(score_S)
        padded_GK = np.zeros(self.inverse_GKK.shape[:2])
        for _ in range(steps):
            better_V = logistic(score_S[votes.winner_V] - score_S[votes.loser_V])
            if self.settings.kind == "crowd":  # the rest of the answer says the opposite of the score
                pull_V = votes.weight_V * (by_score_V - better_V)
            else:
                pull_V = votes.weight_V * by_score_V * (1 - better_V)
            gradient_S = summed(votes.winner_V, pull_V, size) - summed(votes.loser_V, pull_V, size)
            gradient_S -= self.settings.penalty * np.tanh(score_S / 2)
            padded_GK[self.group_S, self.place_S] = gradient_S
            step_GK = (self.inverse_GKK @ padded_GK[..., None])[..., 0]
            score_S = score_S + step_GK[self.group_S, self.place_S]
        return score_S
