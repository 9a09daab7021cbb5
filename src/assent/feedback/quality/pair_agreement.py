"""Krippendorff's alpha over pairs of completions, with an interval that knows that pairs of one item belong together.

Every pair of an item's completions is a unit, and what somebody says of it is -1, 0 or 1: the second is better,
neither, the first. Pairs of one item are not independent, so items are resampled, not pairs. For pair u with m_u >= 2
opinions v, n = sum m_u and sums S1 = sum v, S2 = sum v^2 over all opinions, and s1_u, s2_u over those of u:

    alpha  = 1 - (n - 1) sum_u [(m_u s2_u - s1_u^2) / (m_u - 1)] / (n S2 - S1^2)     interval metric
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np

from assent.feedback.quality.resampling import Estimate, Floats, Resampling, estimate
from assent.feedback.records import AnsweredItem
from assent.feedback.votes import Worth, worth_of

_NO_OVERLAP = "no item was judged by two people"
_ONE_VALUE = "only one value was ever given: nothing to disagree about"
_COLUMNS = 4  # of the sums by item: apart, opinions, S1, S2

Opinions = Mapping[int, Worth]
"""What each person (by id) thinks of an item's completions."""


def pair_alpha(items: Iterable[Opinions], resampling: Resampling | None = None) -> Estimate:
    """Alpha over `items`, 1 for full agreement and 0 for chance; `count` is how many items two people answered."""
    rows = [sums for opinions in items if (sums := _sums(opinions)) is not None]
    sums_IC = np.array(rows, dtype=np.float64).reshape(len(rows), _COLUMNS)

    def alpha(weight_RI: Floats) -> Floats:
        apart_R, count_R, first_R, second_R = (weight_RI @ sums_IC).T
        chance_R = count_R * second_R - first_R**2
        fine_R = chance_R > 1e-9
        return np.where(fine_R, 1 - (count_R - 1) * apart_R / np.where(fine_R, chance_R, 1.0), np.nan)

    return estimate(alpha, len(rows), resampling, why_undefined=_ONE_VALUE if rows else _NO_OVERLAP)


def opinions_of(answered: AnsweredItem) -> dict[int, Worth]:
    """Each person's first judgement of an item; silent repeats, skips and flags leave none."""
    count = len(answered.item.new.candidates)
    opinions: dict[int, Worth] = {}
    for event in answered.events:
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
        first_sum, second_sum = sum(values), sum(value * value for value in values)
        total += ((people * second_sum - first_sum**2) / (people - 1), people, first_sum, second_sum)
    return tuple(total.tolist()) if total[1] else None
