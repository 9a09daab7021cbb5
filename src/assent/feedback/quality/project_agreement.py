"""How far a project's annotators agree, how reliable each is, and what completions are worth by what they said.

A unit is a pair of an item's completions; an annotator's label of it is 1 (the first is better), 0 (a tie) or -1.
Control items and silent repeats stay out. Pairs of one item are not independent: intervals resample items, and those of
an annotator's reliability are jackknife intervals over blocks of items, on the scale of log-odds.

Reliability is that of the one-coin model of `reliability`. Crowd Bradley-Terry can estimate it as well, but then scores
of completions with a few labels each fit the noise, and everybody looks reliable; so it takes it as given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assent.feedback.quality.agreement import ValueCounts, cohen_kappa, fleiss_kappa, krippendorff_alpha
from assent.feedback.quality.crowd_bradley_terry import Comparisons, crowd_bradley_terry, logistic
from assent.feedback.quality.reliability import EMSettings, Votes, one_coin
from assent.feedback.quality.resampling import Estimate, Floats, Integers, Resampling, undefined, widened
from assent.feedback.records import AnsweredItem
from assent.feedback.votes import Worth, table_of, worth_of

MOST_PAIRS = 10  # pairs of annotators that Cohen's kappa is given for
_BLOCKS = 12  # of items, for the jackknife
_EM = EMSettings(tolerance=1e-6)
_SURE = 1e-6
_TOO_FEW = "fewer than 3 items, or none with labels of two annotators"

Opinions = Mapping[int, Worth]
"""What each annotator (by id) thinks of an item's completions."""
ItemOpinions = tuple[int, int, Opinions]
"""An item's id, the number of its completions, and what annotators think of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatorPair:
    """Cohen's kappa of two annotators over the items that both labelled."""

    first: int
    second: int
    kappa: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectAgreement:
    """The measures; `cohen` has the pairs of annotators with the most items in common, those first.

    `reliability` is P(an annotator's label of a decided pair is right): 1/2 is chance, less is against the others.
    """

    alpha: Estimate
    fleiss: Estimate
    cohen: tuple[AnnotatorPair, ...] = ()
    reliability: Mapping[int, Estimate] = field(default_factory=dict)

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> ProjectAgreement:
        """The reverse of `asdict`, after a file of JSON; TypeError or KeyError for what is no such thing."""
        return ProjectAgreement(
            alpha=Estimate(**told["alpha"]),
            fleiss=Estimate(**told["fleiss"]),
            cohen=tuple(AnnotatorPair(**{**one, "kappa": Estimate(**one["kappa"])}) for one in told["cohen"]),
            reliability={int(person): Estimate(**one) for person, one in told["reliability"].items()},
        )


def item_opinions(answered: AnsweredItem) -> ItemOpinions:
    """Each annotator's first judgement of an item; silent repeats, skips and flags leave none.

    Of equal completions only the first counts: nobody can disagree about them.
    """
    count = len(answered.item.new.candidates)
    different = {place: position for position, place in reversed(table_of(answered)[1].items())}.values()
    opinions: dict[int, Worth] = {}
    for event in answered.events:
        if not event.repeat and event.person_id not in opinions:
            worth = {place: value for place, value in worth_of(event, count).items() if place in different}
            if len(worth) > 1:
                opinions[event.person_id] = worth
    return answered.item.id, count, opinions


def project_agreement(items: Iterable[ItemOpinions], resampling: Resampling | None = None) -> ProjectAgreement:
    """The measures over `items`."""
    labels = _PairLabels.of(items)
    counts = ValueCounts.of_labels(labels.unit_L, labels.label_L, group_N=labels.item_N)
    return ProjectAgreement(
        alpha=krippendorff_alpha(counts, level="interval", resampling=resampling),
        fleiss=fleiss_kappa(counts, resampling=resampling),
        cohen=tuple(_cohen(labels, resampling)),
        reliability=_reliability(labels, resampling.level if resampling else 0.95),
    )


def completion_scores(items: Iterable[ItemOpinions]) -> dict[int, tuple[float | None, ...]]:
    """Crowd Bradley-Terry scores in logits, by item id and in the item's order; None where nobody compared one.

    Annotators count by their reliability. Scores compare completions of one item only.
    """
    labels = _PairLabels.of(items)
    if not len(labels.label_L):
        return {}
    ends_L2 = labels.ends_N2[labels.unit_L]
    answers = Comparisons(
        first_V=ends_L2[:, 0], second_V=ends_L2[:, 1], person_V=labels.person_L, won_V=(labels.label_L + 1) / 2,
        people=len(labels.people), group_S=np.repeat(np.arange(len(labels.item_ids)), np.diff(labels.starts)),
    )  # fmt: skip
    every = labels.accuracy(np.ones(len(labels.label_L), np.bool_))
    score_S = crowd_bradley_terry(answers, reliability_M=every).score_S
    compared = set(ends_L2.ravel().tolist())
    return {
        item_id: tuple(float(score_S[place]) if place in compared else None for place in range(start, stop))
        for item_id, start, stop in zip(labels.item_ids, labels.starts, labels.starts[1:], strict=False)
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PairLabels:
    """L labels of N pairs: `unit_L` and `person_L` are places in the pairs and in `people`; `item_N` is a place too.

    `ends_N2` numbers the completions of all items one after the other, from `start[item]` on.
    """

    unit_L: Integers
    person_L: Integers
    label_L: Floats
    item_N: Integers
    ends_N2: Integers
    people: tuple[int, ...]
    item_ids: tuple[int, ...]
    starts: tuple[int, ...]

    @staticmethod
    def of(items: Iterable[ItemOpinions]) -> _PairLabels:
        rows: list[tuple[int, int, int]] = []
        pairs: list[tuple[int, int, int]] = []
        item_ids: list[int] = []
        starts = [0]
        for item_id, count, opinions in items:
            if not opinions:
                continue
            place: dict[tuple[int, int], int] = {}
            for person, worth in opinions.items():
                for one, other in combinations(sorted(worth), 2):
                    unit = place.setdefault((one, other), len(pairs))
                    pairs += [(len(item_ids), starts[-1] + one, starts[-1] + other)] * (unit == len(pairs))
                    rows.append((unit, person, (worth[one] > worth[other]) - (worth[one] < worth[other])))
            item_ids.append(item_id)
            starts.append(starts[-1] + count)
        row_L3, pair_N3 = np.array(rows, np.int64).reshape(-1, 3), np.array(pairs, np.int64).reshape(-1, 3)
        people, person_L = np.unique(row_L3[:, 1], return_inverse=True)
        return _PairLabels(
            unit_L=row_L3[:, 0], person_L=person_L, label_L=row_L3[:, 2].astype(np.float64), item_N=pair_N3[:, 0],
            ends_N2=pair_N3[:, 1:], people=tuple(people.tolist()), item_ids=tuple(item_ids), starts=tuple(starts),
        )  # fmt: skip

    def accuracy(self, kept_L: NDArray[np.bool_]) -> Floats:
        """Each annotator's P(right) by the one-coin model, from the kept labels that decide."""
        decided = kept_L & (self.label_L != 0)
        votes = Votes(
            item_V=self.unit_L[decided], person_V=self.person_L[decided], items=len(self.item_N),
            people=len(self.people), label_V=(self.label_L[decided] > 0).astype(np.int64),
        )  # fmt: skip
        return one_coin(votes, _EM).accuracy_M


def _cohen(labels: _PairLabels, resampling: Resampling | None) -> Iterable[AnnotatorPair]:
    shared: Counter[tuple[int, int]] = Counter()
    item_L = labels.item_N[labels.unit_L]
    there = np.unique(np.stack([item_L, labels.person_L], axis=1), axis=0)
    for people in np.split(there[:, 1], np.flatnonzero(np.diff(there[:, 0])) + 1):
        shared.update(combinations(people.tolist(), 2))
    for pair, _ in sorted(shared.items(), key=lambda one: (-one[1], one[0]))[:MOST_PAIRS]:
        label_2N = np.full((2, len(labels.item_N)), np.nan)
        for row, person in enumerate(pair):
            own_L = labels.person_L == person
            label_2N[row, labels.unit_L[own_L]] = labels.label_L[own_L]
        kappa = cohen_kappa(*label_2N, group_N=labels.item_N, resampling=resampling)
        yield AnnotatorPair(first=labels.people[pair[0]], second=labels.people[pair[1]], kappa=kappa)


def _reliability(labels: _PairLabels, level: float) -> dict[int, Estimate]:
    item_L = labels.item_N[labels.unit_L]
    items_M = [len(np.unique(item_L[labels.person_L == place])) for place in range(len(labels.people))]
    blocks = min(_BLOCKS, len(labels.item_ids))
    if sum(items_M) <= len(labels.item_ids) or blocks < 3:
        return {person: undefined(_TOO_FEW, items_M[place]) for place, person in enumerate(labels.people)}
    accuracy_M = labels.accuracy(np.ones(len(item_L), np.bool_))
    without_BM = np.array([_logit(labels.accuracy(item_L % blocks != block)) for block in range(blocks)])
    spread_M = np.sqrt((blocks - 1) / blocks * ((without_BM - without_BM.mean(axis=0)) ** 2).sum(axis=0))
    half_M = spread_M * widened(blocks, level) * math.sqrt((blocks - 1) / blocks)  # Student's t
    low_M, high_M = logistic(_logit(accuracy_M) - half_M), logistic(_logit(accuracy_M) + half_M)
    found = zip(labels.people, accuracy_M.tolist(), low_M.tolist(), high_M.tolist(), items_M, strict=True)
    return {person: Estimate(value=value, low=low, high=high, count=n) for person, value, low, high, n in found}


def _logit(probability_M: Floats) -> Floats:
    sure_M = np.clip(probability_M, _SURE, 1 - _SURE)
    return np.asarray(np.log(sure_M / (1 - sure_M)))
