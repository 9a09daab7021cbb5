"""How far people agree about which of two completions is better, with intervals that know that items differ.

Every pair of an item's completions is a unit, and what somebody says of it is -1, 0 or 1: the second is better,
neither, the first. Pairs of one item are not independent, so items are resampled, not pairs. For pair u with m_u >= 2
opinions v, n = sum m_u and sums S1 = sum v, S2 = sum v^2 over all opinions, and s1_u, s2_u over those of u:

    share  = sum_u (opinions that agree with another, in ordered pairs) / sum_u m_u (m_u - 1)
    alpha  = 1 - (n - 1) sum_u [(m_u s2_u - s1_u^2) / (m_u - 1)] / (n S2 - S1^2)     Krippendorff, interval metric
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from assent.feedback.records import Judged
from assent.feedback.resampling import Estimate, Floats, Resampling, estimate
from assent.feedback.votes import Worth, worth_of

_NO_OVERLAP = "no item was judged by two people"
_ONE_VALUE = "only one value was ever given: nothing to disagree about"
_COLUMNS = 6  # of the sums by item: alike, met, apart, opinions, S1, S2

Opinions = Mapping[int, Worth]
"""What each person (by id) thinks of an item's completions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """The `share` of opinions that two people have in common and Krippendorff's `alpha`; `count` is in items."""

    share: Estimate
    alpha: Estimate


def pair_agreement(items: Iterable[Opinions], resampling: Resampling | None = None) -> PairAgreement:
    """Agreement over `items`; those with fewer than two people say nothing."""
    rows = [sums for opinions in items if (sums := _sums(opinions)) is not None]
    sums_IC = np.array(rows, dtype=np.float64).reshape(len(rows), _COLUMNS)

    def share(weight_RI: Floats) -> Floats:
        total_RC = weight_RI @ sums_IC
        return np.asarray(total_RC[:, 0] / total_RC[:, 1])

    def alpha(weight_RI: Floats) -> Floats:
        _, _, apart_R, count_R, first_R, second_R = (weight_RI @ sums_IC).T
        chance_R = count_R * second_R - first_R**2
        fine_R = chance_R > 1e-9
        return np.where(fine_R, 1 - (count_R - 1) * apart_R / np.where(fine_R, chance_R, 1.0), np.nan)

    why = _ONE_VALUE if rows else _NO_OVERLAP
    return PairAgreement(
        share=estimate(share, len(rows), resampling, why_undefined=why),
        alpha=estimate(alpha, len(rows), resampling, why_undefined=why),
    )


def opinions_of(judged: Judged) -> dict[int, Worth]:
    """Each person's first judgement of an item; silent repeats, skips and flags leave none."""
    count = len(judged.item.new.candidates)
    opinions: dict[int, Worth] = {}
    for event in judged.events:
        if not event.repeat and event.person_id not in opinions:
            worth = {place: value for place, value in worth_of(event, count).items() if 0 <= place < count}
            if len(worth) > 1:
                opinions[event.person_id] = worth
    return opinions


def _sums(opinions: Opinions) -> tuple[float, ...] | None:
    said: dict[tuple[int, int], list[int]] = defaultdict(list)
    for worth in opinions.values():
        for first, second in combinations(sorted(worth), 2):
            gain = worth[first] - worth[second]
            said[first, second].append((gain > 0) - (gain < 0))
    total = np.zeros(_COLUMNS)
    for values in said.values():
        people = len(values)
        if people < 2:
            continue
        alike = sum(values.count(value) * (values.count(value) - 1) for value in set(values))
        first_sum, second_sum = sum(values), sum(value * value for value in values)
        apart = (people * second_sum - first_sum**2) / (people - 1)
        total += (alike, people * (people - 1), apart, people, first_sum, second_sum)
    return tuple(total.tolist()) if total[1] else None
