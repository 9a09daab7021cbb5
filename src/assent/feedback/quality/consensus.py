"""What the people together say of each pair, kept apart from their votes: soft labels, majority, plain share.

A vote of person k on pair p is x = +1 (the first is better), -1 or 0 (a tie). With reliability eta_k (see
`reliability`) and weight w_k = log(eta_k / (1 - eta_k)), the posterior of the one-coin model is

    reliability  P(first better) = sg( sum_k c_k w_k x )                         sg the logistic function
    share        P = mean of the votes as 1, 1/2, 0
    majority     P = 1, 1/2 or 0 by the sign of sum_k x

Somebody who is right by chance alone has w = 0. Somebody who is mostly wrong has w < 0: the vote is turned round.
c_k <= 1 caps one person's influence: the largest c with c_k n_k |w_k| <= cap * sum_j c_j n_j |w_j|, n_k the number of
votes.

Shapes: V votes, P pairs, M people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from assent.errors import ConfigError
from assent.feedback.quality.crowd_bradley_terry import logistic
from assent.feedback.quality.reliability import EMSettings, Votes, one_coin, one_coin_intervals
from assent.feedback.quality.resampling import Floats, Integers, summed
from assent.feedback.records import AnsweredItem
from assent.feedback.votes import Table, kind_of_payload, votes_of
from assent.types import Comparison, Conversation, Provenance

Method = Literal["reliability", "share", "majority"]
MOST_RELIABLE = 0.99  # one vote moves the log-odds by at most log 99


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPair:
    """Two completions of an item; `first` and `second` are places in the item's table of completions."""

    item_id: int
    first: int
    second: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoteTable:
    """Who said what of which pair, one vote a person and pair.

    `vote_V` is 1 (first better), 0 or 1/2 (a tie). `pair_V` and `person_V` are places in `pairs` and `people` (ids).
    `known_P` is the answer of control items as 1 or 0, nan elsewhere.
    """

    pairs: tuple[ItemPair, ...]
    people: tuple[int, ...]
    pair_V: Integers
    person_V: Integers
    vote_V: Floats
    known_P: Floats
    tables: Mapping[int, tuple[Conversation, Table]]

    def decided(self) -> Votes:
        """The votes that are no ties, as labels 1 (first better) and 0, for the models of `reliability`."""
        kept = self.vote_V != 0.5
        return Votes(
            item_V=self.pair_V[kept], person_V=self.person_V[kept], label_V=(self.vote_V[kept] > 0.5).astype(np.int64),
            items=len(self.pairs), people=len(self.people),
            known_N=np.where(np.isnan(self.known_P), -1, np.nan_to_num(self.known_P)).astype(np.int64),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonReliability:
    """How far one person can be trusted: P(agrees with the truth) with its interval, from `answers` decided pairs.

    `weight` is what one vote adds to the log-odds, before the cap.
    """

    person_id: int
    accuracy: float
    low: float
    high: float
    answers: int
    weight: float


def vote_table(answered: Iterable[AnsweredItem], *, criterion: str = "") -> VoteTable:
    """The votes of standing answers on the pairs of their items; silent repeats stay out, control items are known."""
    number: dict[ItemPair, int] = {}
    known: dict[int, float] = {}
    tables: dict[int, tuple[Conversation, Table]] = {}
    told: dict[tuple[int, int], float] = {}
    for one in answered:
        events = [event for event in one.events if not event.repeat]
        table, votes = votes_of(one, events, strengths="margin", criterion=criterion)
        tables[one.item.id] = one.item.new.prompt, table
        answers = _known_pairs(one, criterion) if votes else {}
        for vote in votes:
            pair = ItemPair(item_id=one.item.id, first=vote.first, second=vote.second)
            place = number.setdefault(pair, len(number))
            told[place, vote.event.person_id] = vote.probability  # the latest standing answer of a person holds
            if (vote.first, vote.second) in answers:
                known[place] = answers[vote.first, vote.second]
    people = tuple(sorted({person for _, person in told}))
    at = {person: place for place, person in enumerate(people)}
    known_P = np.full(len(number), np.nan)
    known_P[list(known)] = list(known.values())
    return VoteTable(
        pairs=tuple(number), people=people, tables=tables, known_P=known_P,
        pair_V=np.array([pair for pair, _ in told], np.int64),
        person_V=np.array([at[person] for _, person in told], np.int64),
        vote_V=np.array(list(told.values()), np.float64),
    )  # fmt: skip


def _known_pairs(answered: AnsweredItem, criterion: str) -> dict[tuple[int, int], float]:
    """The decided pairs of a control item, as if somebody had given its known answer; none of other items."""
    known = answered.item.new.control_answer
    kind = kind_of_payload(known or {})
    if known is None or kind is None or not answered.events:
        return {}
    event = replace(answered.events[0], kind=kind, payload=known)
    votes = votes_of(answered, [event], strengths="margin", criterion=criterion)[1]
    return {(vote.first, vote.second): vote.probability for vote in votes if vote.probability != 0.5}


def reliabilities(
    table: VoteTable, settings: EMSettings | None = None, *, level: float = 0.95
) -> list[PersonReliability]:
    """Each person's reliability by the one-coin model with its interval; people in the order of the table."""
    votes = table.decided()
    fitted = one_coin(votes, settings)
    ends_M2 = one_coin_intervals(votes, fitted, settings, level=level)
    weight_M = log_odds_weights(fitted.accuracy_M)
    return [
        PersonReliability(
            person_id=person, accuracy=float(fitted.accuracy_M[place]), answers=int(fitted.answers_M[place]),
            low=float(ends_M2[place, 0]), high=float(ends_M2[place, 1]), weight=float(weight_M[place]),
        )
        for place, person in enumerate(table.people)
    ]  # fmt: skip


def log_odds_weights(accuracy_M: Floats) -> Floats:
    """log(eta / (1 - eta)), at most log 99 either way."""
    sure_M = np.clip(accuracy_M, 1 - MOST_RELIABLE, MOST_RELIABLE)
    return np.asarray(np.log(sure_M / (1 - sure_M)))


def soft_labels(
    table: VoteTable,
    *,
    method: Method = "reliability",
    weights: Mapping[int, float] | None = None,
    cap: float | None = None,
) -> Floats:
    """P(first is better) of each pair, [P]; 1/2 without a decided vote.

    `weights` are log-odds per person id (by default from `reliabilities`); `cap` in (0, 1] limits one person's share
    of all weight.
    """
    pairs, x_V = len(table.pairs), 2 * table.vote_V - 1
    if method not in ("reliability", "share", "majority"):
        raise ConfigError(f'the consensus is "reliability", "share" or "majority", got "{method}"')
    if method != "reliability":
        balance_P = summed(table.pair_V, x_V, pairs)
        if method == "majority":
            return np.asarray(0.5 + np.sign(np.round(balance_P, 9)) / 2)
        count_P = np.bincount(table.pair_V, minlength=pairs)
        return np.asarray(0.5 + balance_P / np.maximum(count_P, 1) / 2)
    if weights is None:
        weights = {one.person_id: one.weight for one in reliabilities(table)}
    weight_M = np.array([weights.get(person, 0.0) for person in table.people], np.float64)
    if cap is not None:
        count_M = summed(table.person_V, np.abs(x_V), len(table.people))
        weight_M = weight_M * influence_caps(count_M * np.abs(weight_M), cap)
    logit_P = summed(table.pair_V, weight_M[table.person_V] * x_V, pairs)
    return logistic(logit_P)


def influence_caps(influence_M: Floats, cap: float) -> Floats:
    """Factors in (0, 1] after which nobody holds more than `cap` of the sum of `influence_M`.

    Where that cannot be (fewer than 1 / cap people with any influence), all get the same influence. The m largest ones
    are cut to one height h, the solution of h = cap * (m h + sum of the rest).
    """
    if not 0 < cap <= 1:
        raise ConfigError(f"the cap is a share in (0, 1], got {cap}")
    positive = influence_M > 0
    descending = np.sort(influence_M[positive])[::-1]
    if not len(descending) or descending[0] <= cap * descending.sum():
        return np.ones(len(influence_M))
    height = float(descending[-1])
    for cut in range(1, len(descending)):
        if cap * cut >= 1:
            break
        solution = cap * float(descending[cut:].sum()) / (1 - cap * cut)
        if descending[cut] <= solution:
            height = solution
            break
    return np.where(positive, np.minimum(1.0, height / np.where(positive, influence_M, 1.0)), 1.0)


def comparisons_of(table: VoteTable, probability_P: Floats, *, keep_ties: bool = True) -> list[Comparison]:
    """Soft labels as the reward model's loss takes them: `chosen` is the likelier one, `probability` at least 1/2.

    Pairs of one item share a `group`. Control items are left out, because their answers are known.
    """
    voters = Counter(table.pair_V.tolist())
    made = []
    for place, pair in enumerate(table.pairs):
        probability = float(probability_P[place])
        if not np.isnan(table.known_P[place]) or (probability == 0.5 and not keep_ties):
            continue
        prompt, completions = table.tables[pair.item_id]
        first, second = completions.completions[pair.first], completions.completions[pair.second]
        ahead = probability >= 0.5
        made.append(
            Comparison(
                prompt=prompt,
                chosen=first if ahead else second,
                rejected=second if ahead else first,
                probability=probability if ahead else 1 - probability,
                group=f"item {pair.item_id}",
                provenance=Provenance(source="studio", who=f"consensus of {voters[place]}"),
            )
        )
    return made
