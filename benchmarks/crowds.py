"""Crowds for the benchmarks of reliability: honest labelers of the embedded world, bad ones, their votes, consensus.

Honest ones follow the world's gold judge with Bradley-Terry noise; in the same votes some labelers are then replaced:

    careless       throws a coin        adversarial    says the opposite of what an honest one would say
    always_left    takes what is shown first, whatever it is

Shapes: P pairs, M labelers, V votes, K votes of a pair at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assent.feedback.quality.bias import position_bias
from assent.feedback.quality.consensus import ItemPair, Method, VoteTable, soft_labels
from assent.feedback.quality.crowd_bradley_terry import Comparisons, CrowdSettings, crowd_bradley_terry
from assent.feedback.quality.resampling import Estimate, Resampling, estimate
from assent.seeds import numpy_rng
from assent.world.annotators import SimulatedAnnotator

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HONEST, CARELESS, ADVERSARIAL, ALWAYS_LEFT = "honest", "careless", "adversarial", "always_left"
CROWDS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "3 careless, 3 adversarial, 1 always left": ((CARELESS, 3), (ADVERSARIAL, 3), (ALWAYS_LEFT, 1)),
    "6 careless": ((CARELESS, 6),),
    "4 adversarial": ((ADVERSARIAL, 4),),
    "1 always left": ((ALWAYS_LEFT, 1),),
}
LABELERS = 15
SHARPNESS = (4.0, 9.0)  # logits for a whole unit of gold
_CONSENSUS: Mapping[str, Method] = {"share": "share", "majority": "majority", "reliability": "reliability"}
METHODS = ("share", "majority", "reliability", "crowd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One seed of one crowd: agreement of two honest labelers, accuracy by consensus, who was named."""

    crowd: str
    seed: int
    agreement: float
    honest: Mapping[str, float]
    accuracy: Mapping[str, float]
    named_left: tuple[int, ...]
    is_left: tuple[int, ...]


def behaviours_of(crowd: str) -> list[str]:
    """What each of the labelers does, the bad ones first."""
    bad = [kind for kind, number in CROWDS[crowd] for _ in range(number)]
    return bad + [HONEST] * (LABELERS - len(bad))


def honest_people(seed: int, sharpness: tuple[float, float] = SHARPNESS) -> tuple[SimulatedAnnotator, ...]:
    """Labelers of the world: sharper and blunter ones, some with a taste for length or flattery."""
    rng = numpy_rng(seed, "people")
    return tuple(
        SimulatedAnnotator(
            name=f"honest {place}",
            sharpness=float(rng.uniform(*sharpness)),
            length_taste=0.05 * (place % 5 == 1),
            flattery_taste=0.05 * (place % 5 == 3),
        )
        for place in range(LABELERS)
    )


def vote(
    chance_PM: Floats, behaviour: Sequence[str], *, votes: tuple[int, int], seed: int
) -> tuple[VoteTable, Integers]:
    """Answers to each pair by labelers drawn at random, at least and at most so many; the slot of each one's choice.

    `chance_PM` is P(an honest labeler m prefers the first). The same seed gives the same people, order of presentation
    and honest answers, whoever else misbehaves.
    """
    rng = numpy_rng(seed, "votes")
    (count, people), (least, most) = chance_PM.shape, votes
    person_PK = np.argsort(rng.random((count, people)), axis=1)[:, :most]
    honest_PK = rng.random((count, most)) < np.take_along_axis(chance_PM, person_PK, axis=1)
    first_on_left_PK, coin_PK = rng.random((count, most)) < 0.5, rng.random((count, most)) < 0.5
    wanted_P1: Integers = rng.integers(least, most + 1, size=(count, 1))
    kept_PK = np.arange(most) < wanted_P1
    kind_PK = np.array(behaviour)[person_PK]
    said_PK = np.select(
        [kind_PK == CARELESS, kind_PK == ADVERSARIAL, kind_PK == ALWAYS_LEFT],
        [coin_PK, ~honest_PK, first_on_left_PK],
        honest_PK,
    )
    table = VoteTable(
        pairs=tuple(ItemPair(item_id=place, first=0, second=1) for place in range(count)),
        people=tuple(range(people)),
        pair_V=np.nonzero(kept_PK)[0],
        person_V=person_PK[kept_PK],
        vote_V=said_PK[kept_PK].astype(np.float64),
        known_P=np.full(count, np.nan),
        tables={},
    )
    return table, np.where(said_PK == first_on_left_PK, 0, 1)[kept_PK]


def plain_agreement(table: VoteTable) -> float:
    """The chance that two different people who voted on a pair say the same; no vote is a tie here."""
    count_P = np.bincount(table.pair_V, minlength=len(table.pairs))
    first_P = np.bincount(table.pair_V, weights=table.vote_V, minlength=len(table.pairs))
    alike_P = first_P * (first_P - 1) + (count_P - first_P) * (count_P - first_P - 1)
    return float(alike_P.sum() / max(1, (count_P * (count_P - 1)).sum()))


def named_left(table: VoteTable, slot_V: Integers) -> tuple[int, ...]:
    """Who is proven to take always what is shown first."""
    slots: dict[int, list[tuple[int, int]]] = {}
    for person, slot in zip(table.person_V.tolist(), slot_V.tolist(), strict=True):
        slots.setdefault(person, []).append((slot, 2))
    return tuple(sorted(one.person_id for one in position_bias(slots) if one.verdict == "always the first"))


def labels(table: VoteTable, method: str) -> Floats:
    """P(first is better) of each pair by a consensus; "crowd" is Bradley-Terry with reliabilities."""
    if method != "crowd":
        return soft_labels(table, method=_CONSENSUS[method])
    first_P = 2 * np.arange(len(table.pairs))  # every pair is of an item of its own
    answers = Comparisons(
        first_V=first_P[table.pair_V], second_V=first_P[table.pair_V] + 1, person_V=table.person_V,
        won_V=table.vote_V, group_S=np.repeat(first_P, 2), people=len(table.people),
    )  # fmt: skip
    return crowd_bradley_terry(answers, CrowdSettings()).probability(first_P, first_P + 1)


def recovered(won: Floats, lost: Floats) -> Estimate:
    """Accuracy won back beside accuracy lost, sums over seeds; the interval resamples seeds."""

    def statistic(weight_RN: Floats) -> Floats:
        return np.asarray((weight_RN @ won) / np.maximum(weight_RN @ lost, 1e-9))

    return estimate(statistic, len(won), Resampling(), why_undefined="nothing was lost")
