"""Which items deserve more labels: where people disagree, or where they and the reward model do.

For a pair with n votes of which a say "first", the people's P(first) has a Beta(a + 1/2, n - a + 1/2) belief with mean
m and the reward model says p. The need of the pair is

    need = H(m) n / (n + 1) + max(0, KL(m' || p)) ,   m' = m where n > 0, else p           in nats
    more labels = ceil(need / full_need * (most - n)), at most most - n, none below `least_need`

The store asks one person at a time (`needs_more`): the item is asked again while its need is at least `LEAST_NEED`,
fewer than `most` have judged it, and those left could still tie or turn the majority.

H(m), the entropy of a vote, is high where people split; KL is high where they agree with each other and not with the
model. An item needs what its most needy pair does. A split that more votes will not decide (n at `most`) gets no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from assent.errors import DataError
from assent.feedback.quality.consensus import VoteTable, vote_table
from assent.feedback.quality.crowd_bradley_terry import logistic
from assent.feedback.quality.resampling import Floats
from assent.feedback.records import AnsweredItem
from assent.feedback.votes import table_of

LEAST_NEED = 0.35  # nats
_FULL_NEED = float(np.log(2))  # nats: people split evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What an item deserves: `need` in nats, `labels` it has (people who judged it), `wanted` in all."""

    item_id: int
    need: float
    labels: int
    wanted: int


def adaptive_overlap(
    table: VoteTable, *, most: int, model_P: Floats | None = None, least_need: float = LEAST_NEED
) -> list[Overlap]:
    """How many labels each judged item should get, the neediest first; `model_P` is the reward model's P(first better).

    `most` is the project's limit (`ProjectSettings.adaptive_overlap`). Items of which everybody, and the model, say the
    same keep the labels they have. Control items are left out.
    """
    pairs = len(table.pairs)
    if model_P is not None and (len(model_P) != pairs or not np.all((model_P >= 0) & (model_P <= 1))):
        raise DataError(f"the model needs one probability for each of {pairs} pairs")
    need_P = need_of_pairs(table, model_P)
    need: dict[int, float] = {}
    for place, pair in enumerate(table.pairs):
        if np.isnan(table.known_P[place]):
            need[pair.item_id] = max(need.get(pair.item_id, 0.0), float(need_P[place]))
    labels = _labels(table)
    found = [
        Overlap(item_id=item, need=value, labels=labels[item], wanted=_wanted(value, labels[item], most, least_need))
        for item, value in need.items()
    ]
    return sorted(found, key=lambda one: (-one.need, one.item_id))


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
    difference_P = np.array(
        [score_of.get(pair.first, np.nan) - score_of.get(pair.second, np.nan) for pair in table.pairs]
    )
    return logistic(difference_P)


def overlap_of(found: list[Overlap]) -> Mapping[int, int]:
    """Item id -> labels wanted, for the store's `set_priorities`; only items that should get more than they have."""
    return {one.item_id: one.wanted for one in found if one.wanted > one.labels}


def _labels(table: VoteTable) -> dict[int, int]:
    people: dict[int, set[int]] = {}
    for pair, person in zip(table.pair_V.tolist(), table.person_V.tolist(), strict=True):
        people.setdefault(table.pairs[pair].item_id, set()).add(person)
    return {item: len(those) for item, those in people.items()}


def _wanted(need: float, labels: int, most: int, least_need: float) -> int:
    if need < least_need or labels >= most:
        return labels
    return labels + max(1, min(most - labels, int(np.ceil(need / _FULL_NEED * (most - labels)))))


def _entropy(probability_P: Floats) -> Floats:
    return np.asarray(-(probability_P * np.log(probability_P) + (1 - probability_P) * np.log1p(-probability_P)))
