"""How far each annotator can be trusted, without knowing the truth: Dawid-Skene and the one-coin model, by EM.

Item i has a true class z_i with P(z_i = c) = prior_c; annotator k says l with probability e_k[z_i, l].

    Dawid & Skene 1979   e_k a table of its own;       M: e_k[c, l] ~ sum_{votes of k for l} q_i(c) + pseudo answers
    one coin             e_k[c, c] = eta_k, the rest (1 - eta_k) / (C - 1);   M: eta_k = mean of q_i(said) (with pseudo)
    E, both              q_i(c) ~ prior_c * prod_{votes of i} e_k[c, said]

Pseudo answers are a Dirichlet (Beta) prior: `prior_answers` answers of which `prior_accuracy` were right, so that a
annotator with few answers stays near what is usual. q starts as the share of votes. Classes of control items are known.
Intervals of eta: see `one_coin_intervals`. Only control items can tell a crowd that is mostly wrong from one that is
mostly right: without any, the majority is taken to be better than chance.

Shapes: V votes, N items, M annotators ("people"), C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from assent.errors import ConfigError, DataError
from assent.feedback.quality.binomial import beta_quantile
from assent.feedback.quality.resampling import Floats, Integers

_EPS = 1e-10  # counts and probabilities are kept this far from 0
_SMALLEST = 1e-300
_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EMSettings:
    """`tolerance` is the gain of log-likelihood per vote at which EM stops; -inf runs all iterations.

    `class_prior` fixes the shares of the classes ("even") or estimates them ("estimated"): for pairs in an arbitrary
    order even is right. `start` "best" also starts from what control items say of each annotator and keeps the likelier
    end, so that they can turn a crowd that is mostly wrong; "votes" starts from the shares of votes alone.
    """

    iterations: int = 200
    tolerance: float = 1e-8
    prior_answers: float = 4.0
    prior_accuracy: float = 0.75
    class_prior: str = "even"
    start: Literal["best", "votes"] = "best"

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.prior_answers < 0 or not 0 < self.prior_accuracy < 1:
            raise ConfigError("EM needs iterations >= 1, prior_answers >= 0 and prior_accuracy between 0 and 1")
        if self.class_prior not in ("even", "estimated"):
            raise ConfigError(f'class_prior is "even" or "estimated", got "{self.class_prior}"')


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Votes:
    """V votes: `person_V` said `label_V` in 0..C-1 of `item_V`. `known_N` holds the class of control items, else -1.

    `weight_V` >= 0 counts a vote as so many votes (None: each as one).
    """

    item_V: Integers
    person_V: Integers
    label_V: Integers
    items: int
    people: int
    classes: int = 2
    known_N: Integers | None = None
    weight_V: Floats | None = None

    def __post_init__(self) -> None:
        if not len(self.item_V) == len(self.person_V) == len(self.label_V):
            raise DataError("votes need one item, one person and one label each")
        named = {"item": (self.item_V, self.items), "person": (self.person_V, self.people)}
        for name, (place_V, size) in (named | {"label": (self.label_V, self.classes)}).items():
            if len(place_V) and not 0 <= int(place_V.min()) <= int(place_V.max()) < size:
                raise DataError(f"a vote names the {name} {int(place_V.max())} of {size}")

    @property
    def weights(self) -> Floats:
        """One weight a vote."""
        return np.ones(len(self.item_V)) if self.weight_V is None else self.weight_V


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """What EM found. `posterior_NC` is P(class of item | votes); an item without votes keeps the prior.

    `confusion_MCC[k, c, l]` is P(k says l | truth c). `accuracy_M` is P(k is right), classes weighted alike.
    `objective` lists log-likelihood (plus log prior, up to a constant) before each iteration; it never falls.
    """

    posterior_NC: Floats
    prior_C: Floats
    confusion_MCC: Floats
    accuracy_M: Floats
    answers_M: Floats
    objective: tuple[float, ...] = field(repr=False)


def dawid_skene(votes: Votes, settings: EMSettings | None = None) -> Fitted:
    """The Dawid-Skene model: each annotator has a full table of how each class is called."""
    settings = settings or EMSettings()
    size = votes.classes
    share, each = settings.prior_accuracy, settings.prior_answers / size  # each true class has its share of the prior
    pseudo_CC = np.where(np.eye(size, dtype=bool), share, (1 - share) / (size - 1)) * each
    weight_V = votes.weights
    said_MC = _summed(votes.person_V * size + votes.label_V, weight_V, (votes.people, size))
    # never said: never likely
    floor_MC = np.where((said_MC > 0) | (said_MC.sum(axis=1, keepdims=True) == 0), _EPS, 0.0)

    def confusions(posterior_NC: Floats) -> Floats:
        counts_MCC = np.empty((votes.people, size, size))
        for c in range(size):
            counts_MCC[:, c] = _summed(
                votes.person_V * size + votes.label_V, posterior_NC[votes.item_V, c] * weight_V, (votes.people, size)
            )
        counts_MCC = np.maximum(counts_MCC + pseudo_CC, floor_MC[:, None])
        return np.asarray(counts_MCC / counts_MCC.sum(axis=2, keepdims=True))

    def log_prior(confusion_MCC: Floats) -> float:
        return float((pseudo_CC * np.log(np.maximum(confusion_MCC, _EPS))).sum())

    return _expectation_maximisation(votes, settings, confusions, log_prior)


def one_coin(votes: Votes, settings: EMSettings | None = None) -> Fitted:
    """The one-coin model: each annotator is right with one probability, and wrong alike in all ways."""
    settings = settings or EMSettings()
    size, weight_V = votes.classes, votes.weights
    right = settings.prior_answers * settings.prior_accuracy
    wrong = settings.prior_answers - right
    answers_M = _summed(votes.person_V, weight_V, (votes.people,))
    diagonal = np.eye(size, dtype=bool)

    def confusions(posterior_NC: Floats) -> Floats:
        agreed_M = _summed(votes.person_V, posterior_NC[votes.item_V, votes.label_V] * weight_V, (votes.people,))
        total_M = answers_M + settings.prior_answers
        eta_M = np.where(total_M > 0, (agreed_M + right) / np.where(total_M > 0, total_M, 1), settings.prior_accuracy)
        table_MCC = np.where(diagonal, eta_M[:, None, None], (1 - eta_M[:, None, None]) / (size - 1))
        return np.clip(table_MCC, _EPS, 1 - _EPS)

    def log_prior(confusion_MCC: Floats) -> float:
        eta_M = confusion_MCC[:, 0, 0]
        return float((right * np.log(eta_M) + wrong * np.log1p(-eta_M)).sum())

    return _expectation_maximisation(votes, settings, confusions, log_prior)


def posterior_of(votes: Votes, confusion_MCC: Floats, prior_NC: Floats) -> tuple[Floats, float]:
    """P(class | votes) of each item and the log-likelihood; `prior_NC` (or [1, C]) may differ by item.

    A reward model's own probabilities as `prior_NC` give what votes and model say together.
    """
    size = votes.classes
    log_table_MLC = np.log(np.maximum(confusion_MCC, _SMALLEST)).transpose(0, 2, 1)
    said_VC = log_table_MLC[votes.person_V, votes.label_V] * votes.weights[:, None]
    logit_NC = np.empty((votes.items, size))
    for c in range(size):
        logit_NC[:, c] = np.bincount(votes.item_V, weights=said_VC[:, c], minlength=votes.items)
    logit_NC += np.log(np.maximum(prior_NC, _EPS))
    if votes.known_N is not None:
        known_N = votes.known_N >= 0
        logit_NC[known_N] = np.where(np.arange(size) == votes.known_N[known_N, None], logit_NC[known_N], -np.inf)
    top_N = logit_NC.max(axis=1, keepdims=True)
    likelihood_NC = np.exp(logit_NC - top_N)
    total_N = likelihood_NC.sum(axis=1, keepdims=True)
    return likelihood_NC / total_N, float((np.log(total_N) + top_N).sum())


def _expectation_maximisation(
    votes: Votes, settings: EMSettings, confusions: Callable[[Floats], Floats], log_prior: Callable[[Floats], float]
) -> Fitted:
    from_votes = _ascended(votes, settings, _shares(votes), confusions, log_prior)
    if settings.start == "votes" or votes.known_N is None or not (votes.known_N >= 0).any():
        return from_votes
    known_V = (votes.known_N >= 0)[votes.item_V]
    known_votes = replace(votes, weight_V=votes.weights * known_V)
    start = replace(settings, iterations=1, prior_answers=max(1.0, settings.prior_answers), start="votes")
    told = dawid_skene(known_votes, start)
    posterior_NC, _ = posterior_of(votes, told.confusion_MCC, told.prior_C[None])
    from_controls = _ascended(votes, settings, posterior_NC, confusions, log_prior)
    return from_controls if from_controls.objective[-1] > from_votes.objective[-1] else from_votes


def _ascended(
    votes: Votes,
    settings: EMSettings,
    posterior_NC: Floats,
    confusions: Callable[[Floats], Floats],
    log_prior: Callable[[Floats], float],
) -> Fitted:
    estimated = settings.class_prior == "estimated"
    prior_C = posterior_NC.mean(axis=0) if estimated else np.full(votes.classes, 1 / votes.classes)
    confusion_MCC = confusions(posterior_NC)
    objective: list[float] = []
    for _ in range(settings.iterations):
        posterior_NC, likelihood = posterior_of(votes, confusion_MCC, prior_C[None])
        objective.append(likelihood + log_prior(confusion_MCC))
        if estimated:
            prior_C = posterior_NC.mean(axis=0)
        confusion_MCC = confusions(posterior_NC)
        gain = objective[-1] - objective[-2] if len(objective) > 1 else math.inf
        if gain < settings.tolerance * max(1, len(votes.item_V)):
            break
    return Fitted(
        posterior_NC=posterior_NC,
        prior_C=prior_C,
        confusion_MCC=confusion_MCC,
        accuracy_M=np.trace(confusion_MCC, axis1=1, axis2=2) / votes.classes,
        answers_M=_summed(votes.person_V, votes.weights, (votes.people,)),
        objective=tuple(objective),
    )


def one_coin_intervals(
    votes: Votes, fitted: Fitted, settings: EMSettings | None = None, *, level: float = 0.95
) -> Floats:
    """Intervals [M, 2] for each annotator's probability to be right, in the one-coin model of two classes.

    The observed information of all etas together (Louis 1982) is the information of the votes if the truth were known,
    less what the truth's uncertainty takes away:

        H = diag(right_k / eta^2 + wrong_k / (1 - eta)^2) - D' diag(q (1 - q)) D,   D[i, k] = said / (eta (1 - eta))

    with said in {-1, 0, 1}. [H^-1]_kk = eta (1 - eta) / n_k defines how many answers with known truth the annotator's
    answers are worth; the interval is the Beta interval (Jeffreys) of that many. It stays sensible near 0 and 1.
    """
    if votes.classes != 2:
        raise DataError("intervals of reliability are for two classes (A better, B better)")
    settings = settings or EMSettings()
    eta_M = np.clip(fitted.accuracy_M, 1e-6, 1 - 1e-6)
    total_M = fitted.answers_M + settings.prior_answers
    spread_M = eta_M * (1 - eta_M)
    information_MM = np.diag(total_M / spread_M)
    uncertain_N = fitted.posterior_NC[:, 0] * fitted.posterior_NC[:, 1]
    order_V = np.argsort(votes.item_V, kind="stable")
    rows = max(1, _CHUNK // max(1, votes.people))
    for start in range(0, votes.items, rows):
        first, last = np.searchsorted(votes.item_V[order_V], [start, start + rows])
        part_V = order_V[first:last]
        said_NM = np.zeros((min(rows, votes.items - start), votes.people))
        signed_V = np.where(votes.label_V[part_V] == 1, 1.0, -1.0) * votes.weights[part_V]
        np.add.at(said_NM, (votes.item_V[part_V] - start, votes.person_V[part_V]), signed_V)
        said_NM /= spread_M
        information_MM -= said_NM.T @ (uncertain_N[start : start + rows, None] * said_NM)
    worth_M = _worth(information_MM, spread_M, total_M)
    tail = (1 - level) / 2
    ends = np.empty((votes.people, 2))
    for k in range(votes.people):
        right, wrong = eta_M[k] * worth_M[k] + 0.5, (1 - eta_M[k]) * worth_M[k] + 0.5
        ends[k] = beta_quantile(tail, right, wrong), beta_quantile(1 - tail, right, wrong)
    return ends


def _worth(information_MM: Floats, spread_M: Floats, total_M: Floats) -> Floats:
    """Answers with known truth that each annotator's answers are worth; at least half a one, at most all."""
    values, vectors = np.linalg.eigh(information_MM)
    floor = 1e-9 * max(float(values.max(initial=0.0)), 1e-300)
    variance_M = (vectors**2 / np.maximum(values, floor)).sum(axis=1)
    return np.asarray(np.clip(spread_M / variance_M, 0.5, np.maximum(total_M, 0.5)))


def _shares(votes: Votes) -> Floats:
    """The share of votes for each class of each item, where EM starts; even without votes, known for control items."""
    size = votes.classes
    share_NC = _summed(votes.item_V * size + votes.label_V, votes.weights, (votes.items, size))
    total_N = share_NC.sum(axis=1, keepdims=True)
    share_NC = np.where(total_N > 0, share_NC / np.where(total_N > 0, total_N, 1), 1 / size)
    if votes.known_N is not None:
        known_N = votes.known_N >= 0
        share_NC[known_N] = np.eye(size)[votes.known_N[known_N]]
    return share_NC


def _summed(place_V: Integers, value_V: Floats, shape: tuple[int, ...]) -> Floats:
    return np.bincount(place_V, weights=value_V, minlength=math.prod(shape)).reshape(shape).astype(np.float64)
