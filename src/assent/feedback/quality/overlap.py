"""Which items deserve more labels: where people disagree, or where they and the reward model do.

For a pair with n votes of which a say "first", the people's P(first) has a Beta(a + 1/2, n - a + 1/2) belief with mean
m and the reward model says p. The need of the pair is

    need = H(m) n / (n + 1) + max(0, KL(m' || p)) ,   m' = m where n > 0, else p           in nats

The store asks one person at a time (`needs_more`): the item is asked again while its need is at least `LEAST_NEED`,
fewer than `most` have judged it, and those left could still tie or turn the majority.

H(m), the entropy of a vote, is high where people split; KL is high where they agree with each other and not with the
model. An item needs what its most needy pair does. A split that more votes will not decide (n at `most`) gets no more.
"""

from __future__ import annotations

import numpy as np

from assent.feedback.quality.consensus import VoteTable, vote_table
from assent.feedback.quality.crowd_bradley_terry import logistic
from assent.feedback.quality.resampling import Floats
from assent.feedback.records import AnsweredItem
from assent.feedback.votes import table_of

LEAST_NEED = 0.35  # nats


def need_of_pairs(table: VoteTable, model_P: Floats | None = None) -> Floats:
    """The need of each pair in nats; see the module. `model_P` is nan where the model says nothing."""
    pairs = len(table.pairs)
    count_P = np.bincount(table.pair_V, minlength=pairs).astype(np.float64)
    first_P = np.bincount(table.pair_V, weights=table.vote_V, minlength=pairs)
    mean_P = (first_P + 0.5) / (count_P + 1)
    split_P = _entropy(mean_P) * count_P / (count_P + 1)
    # one vote, or votes that all agree, must not count as a split: their mean is pulled to 1/2 by the prior only
    agreed_P = (first_P == 0) | (first_P == count_P)
    split_P = np.where(agreed_P, 0.0, split_P)
    if model_P is None:
        return split_P
    sure_P = np.where(np.isnan(model_P), mean_P, np.clip(model_P, 1e-3, 1 - 1e-3))
    apart_P = mean_P * np.log(mean_P / sure_P) + (1 - mean_P) * np.log((1 - mean_P) / (1 - sure_P))
    against_P = (mean_P - 0.5) * (sure_P - 0.5) < 0  # only where they name different winners
    return np.asarray(split_P + np.where((count_P > 0) & against_P, np.maximum(apart_P, 0.0), 0.0))


def needs_more(answered: AnsweredItem, *, most: int) -> bool:
    """Whether one more person should judge an item: the module's rule, with the item's own predictions.

    Pairs with a completion that somebody wrote have no prediction.
    """
    table = vote_table([answered])
    pairs = len(table.pairs)
    if not pairs:
        return False
    labels = len(table.people)
    count_P = np.bincount(table.pair_V, minlength=pairs)
    first_P = np.bincount(table.pair_V, weights=table.vote_V, minlength=pairs)
    undecided_P = np.abs(2 * first_P - count_P) <= most - labels
    need_P = need_of_pairs(table, _predicted(answered, table))
    return labels < most and bool(np.any(undecided_P & (need_P >= LEAST_NEED)))


def _predicted(answered: AnsweredItem, table: VoteTable) -> Floats | None:
    scores = answered.item.new.predicted
    if scores is None:
        return None
    _, places = table_of(answered)
    score_of = {place: scores[position] for position, place in reversed(places.items())}
    ends_P2 = np.array([[score_of.get(place, np.nan) for place in (pair.first, pair.second)] for pair in table.pairs])
    return logistic(ends_P2[:, 0] - ends_P2[:, 1])


def _entropy(probability_P: Floats) -> Floats:
    return np.asarray(-(probability_P * np.log(probability_P) + (1 - probability_P) * np.log1p(-probability_P)))
