"""Habits of single annotators: position bias and speed.

The order of presentation is drawn at random for every presentation, so under no position bias the slot of what somebody
likes best is uniform over the K slots shown, whatever the quality of the completions:

    first share   f / n, n answers with one best completion, f of them with the best one shown first
    test          f ~ sum of independent Bernoulli(1 / K_i): exact, two-sided (twice the smaller tail); Holm over people
    interval      Clopper-Pearson; all in `binomial`

    speed         r = log time - median log time of the item (of everything where one person judged the item);
                  z = (median r of the person - median over people) / (1.4826 * median absolute deviation over people)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assent.feedback.quality.binomial import Proportion, binomial_p_value, exact_share, holm
from assent.feedback.quality.resampling import Floats
from assent.feedback.records import Event, EventKind
from assent.feedback.votes import worth_of

ALWAYS = 0.9  # share of first choices from which a proven bias is called "always"
SIGNIFICANT = 0.05
OUTLIER_Z = 3.5  # Iglewicz & Hoaglin 1993
_LEAST_SPREAD = 0.15  # of log times: people within 15 % of each other are no outliers
_LEAST_PEOPLE, _LEAST_ANSWERS = 4, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """How often a person liked best what was shown first. `expected` is the share under no bias (1/2 for pairs).

    `adjusted` is the p-value corrected for the number of people. `verdict` is "", "leans to the first", "leans away
    from the first", "always the first" or "never the first".
    """

    person_id: int
    first: Proportion
    expected: float
    p_value: float
    adjusted: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """`median_ms` as measured; `factor` is the time taken beside what others take for the same items (1: as usual).

    `verdict` is "", "fast" or "slow"; it stays "" for fewer than 4 people or 10 answers.
    """

    person_id: int
    answers: int
    median_ms: float
    factor: float
    z: float
    verdict: str


def slot_of_best(event: Event) -> int | None:
    """In which slot the single best completion was shown; None for a tie, one completion, or no judgement."""
    if len(event.order) < 2 or event.kind is EventKind.MODEL_PREFERENCE:  # a model sees both orders
        return None
    worth = {place: value for place, value in worth_of(event, len(event.order)).items() if place >= 0}
    if len(worth) < 2:
        return None
    highest = max(worth.values())
    best = [place for place, value in worth.items() if value == highest]
    return event.order.index(best[0]) if len(best) == 1 else None


def position_bias(slots: Mapping[int, Sequence[tuple[int, int]]], *, level: float = 0.95) -> list[PositionBias]:
    """Everybody's position bias, the surest first, from (slot of the best, number of slots) by person."""
    told = []
    for person, choices in slots.items():
        shown = [count for _, count in choices]
        first = sum(slot == 0 for slot, _ in choices)
        told.append((person, exact_share(first, len(choices), level=level), shown, first_p_value(first, shown)))
    adjusted = holm([p_value for *_, p_value in told])
    found = []
    for (person, share, shown, p_value), corrected in zip(told, adjusted, strict=True):
        expected = sum(1 / count for count in shown) / len(shown)
        verdict = _verdict(share, expected) if corrected < SIGNIFICANT else ""
        values = {"expected": expected, "p_value": p_value, "adjusted": corrected}
        found.append(PositionBias(person_id=person, first=share, **values, verdict=verdict))
    return sorted(found, key=lambda one: (one.p_value, one.person_id))


def first_p_value(first: int, shown: Sequence[int]) -> float:
    """Two-sided exact p-value of `first` choices of the first slot, where answer i showed `shown[i]` slots."""
    if len(set(shown)) == 1:
        return binomial_p_value(first, len(shown), chance=1 / shown[0])
    mass = np.ones(1)
    for count in sorted(set(shown)):
        mass = np.convolve(mass, _binomial_masses(shown.count(count), 1 / count))
    return float(min(1.0, 2 * min(mass[first:].sum(), mass[: first + 1].sum())))


def _binomial_masses(count: int, chance: float) -> Floats:
    log_count = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(count + 1)]
    k = np.arange(count + 1)
    return np.asarray(np.exp(np.array(log_count) + k * math.log(chance) + (count - k) * math.log1p(-chance)))


def _verdict(share: Proportion, expected: float) -> str:
    rate = share.value or 0.0
    if rate > expected:
        return "always the first" if rate >= ALWAYS else "leans to the first"
    return "never the first" if rate <= expected * (1 - ALWAYS) * 2 else "leans away from the first"


def speed(times: Sequence[tuple[int, int, float]]) -> list[Speed]:
    """Everybody's pace beside the others' on the same items, the fastest first; from (person, item, milliseconds)."""
    if not times:
        return []
    overall = _median([math.log(ms) for *_, ms in times])
    by_item = _gathered(times, lambda row: (row[1], math.log(row[2])))
    usual = {item: _median(logs) if len(logs) > 1 else overall for item, logs in by_item.items()}
    logs_of = _gathered(times, lambda row: (row[0], math.log(row[2]) - usual[row[1]]))
    pace = {person: _median(logs) for person, logs in logs_of.items()}
    centre = _median(list(pace.values()))
    spread = max(1.4826 * _median([abs(value - centre) for value in pace.values()]), _LEAST_SPREAD)
    taken = _gathered(times, lambda row: (row[0], row[2]))
    found = []
    for person, value in pace.items():
        z, enough = (value - centre) / spread, len(pace) >= _LEAST_PEOPLE and len(taken[person]) >= _LEAST_ANSWERS
        verdict = "" if not enough or abs(z) <= OUTLIER_Z else "fast" if z < 0 else "slow"
        found.append(
            Speed(
                person_id=person, answers=len(taken[person]), median_ms=_median(taken[person]),
                factor=math.exp(value - centre), z=z, verdict=verdict,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (one.z, one.person_id))


def _gathered(
    times: Sequence[tuple[int, int, float]], part: Callable[[tuple[int, int, float]], tuple[int, float]]
) -> dict[int, list[float]]:
    gathered: dict[int, list[float]] = {}
    for row in times:
        key, value = part(row)
        gathered.setdefault(key, []).append(value)
    return gathered


def _median(values: Sequence[float]) -> float:
    return float(np.median(np.array(values, np.float64)))
