"""Which model is better: Bradley-Terry ratings with ties, by maximum likelihood, with bootstrap intervals.

Strengths exist only among models that have beaten (or tied with) each other along some chain; models are therefore
rated island by island, and between islands nothing is claimed. Ratings are 1000 + 400 / ln 10 * strength, with the
mean of an island at 1000. Intervals are percentiles over resampled groups of judgements.

Legend: M models, E ordered pairs of models (E = M * M), B battles, G groups of battles that belong together, R
resamples.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assent.feedback.quality.bradley_terry import Floats, fit
from assent.seeds import numpy_rng

Outcome = Literal["first", "second", "tie"]

MEAN_RATING = 1000.0
PER_NAT = 400 / math.log(10)
OPEN_NATS = 6.0  # a strength beyond this stands for "no bound": a resample in which somebody won everything
_RIDGE = 1e-6  # keeps such resamples finite; it moves a real maximum by less than its rounding for display
_CELLS = 4_000_000  # numbers held at once while resampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Battle:
    """Two models compared once; `first` is the one that stood on the left (or above).

    Battles with the same `group` (one conversation, one ranking) are resampled together.
    """

    first: str
    second: str
    won: Outcome
    group: Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A model's place. `low` or `high` is None where the data set no bound; `places` is the span of possible ranks."""

    model: str
    rating: float
    low: float | None
    high: float | None
    places: tuple[int, int]
    wins: int
    ties: int
    losses: int

    @property
    def battles(self) -> int:
        """How often the model was compared."""
        return self.wins + self.ties + self.losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Island:
    """Models that can be compared with each other, best first. A single model has no rating but stands here."""

    ratings: tuple[Rating, ...]
    tie_weight: float  # nu

    @property
    def rated(self) -> bool:
        """Whether there is anything to compare within."""
        return len(self.ratings) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Matchup:
    """What happened between two models: `won` by the first, `lost`, and ties."""

    first: str
    second: str
    won: int
    tied: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """Every model of the battles, in islands (the largest first). `reasons` says why there is more than one."""

    islands: tuple[Island, ...]
    pairs: tuple[Matchup, ...]
    battles: int
    groups: int
    reasons: tuple[str, ...]
    first_won: tuple[int, int]  # decided battles won by the first of the two, and decided battles

    @property
    def comparable(self) -> bool:
        """Whether one scale holds all models."""
        return len(self.islands) <= 1


def standings(battles: Iterable[Battle], *, seed: int = 0, resamples: int = 500, level: float = 0.95) -> Standings:
    """Ratings of all models in `battles`; a model against itself is left out. Groups are the unit of resampling."""
    kept = [battle for battle in battles if battle.first != battle.second]
    names = sorted({name for battle in kept for name in (battle.first, battle.second)})
    counts = _Counts.of(kept, names)
    islands = _islands(counts.total_MM() > 0)
    built = []
    for members in islands:
        low_high, nu, strength, places = _island(counts, members, seed=seed, resamples=resamples, level=level)
        built.append(_named(counts, members, strength, low_high, places, nu))
    decided = [battle for battle in kept if battle.won != "tie"]
    return Standings(
        islands=tuple(built),
        pairs=_pairs(counts),
        battles=len(kept),
        groups=counts.groups,
        reasons=_reasons(counts, islands),
        first_won=(sum(battle.won == "first" for battle in decided), len(decided)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Battles as rows: group, ordered pair and weight; a tie is kept in both directions with half the weight."""

    names: Sequence[str]
    group_B: NDArray[np.int64]
    win_B: NDArray[np.int64]  # winner * M + loser, or first * M + second for a tie
    tied_B: NDArray[np.bool_]
    groups: int

    @staticmethod
    def of(battles: Sequence[Battle], names: Sequence[str]) -> _Counts:
        place = {name: i for i, name in enumerate(names)}
        labels = {label: i for i, label in enumerate(dict.fromkeys(battle.group for battle in battles))}
        pairs = []
        for battle in battles:
            first, second = place[battle.first], place[battle.second]
            up, down = (second, first) if battle.won == "second" else (first, second)
            if battle.won == "tie":
                up, down = min(up, down), max(up, down)
            pairs.append(up * len(names) + down)
        return _Counts(
            names=names,
            group_B=np.array([labels[battle.group] for battle in battles], dtype=np.int64),
            win_B=np.array(pairs, dtype=np.int64),
            tied_B=np.array([battle.won == "tie" for battle in battles], dtype=np.bool_),
            groups=len(labels),
        )

    def sums(self, weight_RG: Floats) -> tuple[Floats, Floats]:
        """wins[r, i, j] (i over j) and ties[r, i, j] (symmetric) under the weights of the groups."""
        size = len(self.names)
        wins_RE = np.empty((len(weight_RG), size * size))
        ties_RE = np.empty((len(weight_RG), size * size))
        for row, weight_G in enumerate(weight_RG):
            weight_B = weight_G[self.group_B]
            decided_B = np.where(self.tied_B, 0.0, weight_B)
            wins_RE[row] = np.bincount(self.win_B, weights=decided_B, minlength=size * size)
            ties_RE[row] = np.bincount(self.win_B, weights=weight_B - decided_B, minlength=size * size)
        ties_RMM = ties_RE.reshape(len(weight_RG), size, size)
        return wins_RE.reshape(len(weight_RG), size, size), ties_RMM + ties_RMM.transpose(0, 2, 1)

    def once(self) -> tuple[Floats, Floats]:
        """The counts themselves: (wins, ties), M x M."""
        wins_RMM, ties_RMM = self.sums(np.ones((1, self.groups)))
        return wins_RMM[0], ties_RMM[0]

    def total_MM(self) -> Floats:
        """How often i did not lose against j."""
        wins_MM, ties_MM = self.once()
        return wins_MM + ties_MM


def _island(
    counts: _Counts, members: Sequence[int], *, seed: int, resamples: int, level: float
) -> tuple[tuple[Floats, Floats], float, Floats, list[tuple[int, int]]]:
    """Interval ends, nu, strengths and spans of ranks of one island, in the order of `members`."""
    size = len(members)
    if size == 1:
        open_ends = (np.array([-np.inf]), np.array([np.inf]))
        return open_ends, 0.0, np.zeros(1), [(1, 1)]
    inside = np.ix_(members, members)
    wins_MM, ties_MM = (one[inside] for one in counts.once())
    strength_RM, nu_R = fit(wins_MM[None], ties_MM[None])
    drawn_RM = _resampled(counts, members, seed=seed, resamples=resamples)
    if not len(drawn_RM):
        nothing = (np.full(size, -np.inf), np.full(size, np.inf))
        return nothing, float(nu_R[0]), strength_RM[0], [(1, size)] * size
    tail = (1 - level) / 2
    low_M, high_M = np.quantile(drawn_RM, [tail, 1 - tail], axis=0)
    surely_MM = np.quantile(drawn_RM[:, :, None] - drawn_RM[:, None, :], tail, axis=0) > 0  # i above j
    places = [(1 + int(surely_MM[:, i].sum()), size - int(surely_MM[i].sum())) for i in range(size)]
    return (low_M, high_M), float(nu_R[0]), strength_RM[0], places


def _resampled(counts: _Counts, members: Sequence[int], *, seed: int, resamples: int) -> Floats:
    """Strengths under resampled groups; no rows where there are fewer than two groups."""
    if counts.groups < 2:
        return np.empty((0, len(members)))
    rng = numpy_rng(seed, "arena", *(counts.names[i] for i in members))
    down, across = np.array(members)[:, None], np.array(members)[None, :]
    rows = max(1, _CELLS // max(counts.groups, len(counts.names) ** 2))
    drawn = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        share = np.full(counts.groups, 1 / counts.groups)
        wins_RMM, ties_RMM = counts.sums(rng.multinomial(counts.groups, share, size=size).astype(np.float64))
        strength_RM, _ = fit(wins_RMM[:, down, across], ties_RMM[:, down, across], ridge=_RIDGE)
        drawn.append(strength_RM)
    return np.concatenate(drawn)


def _islands(reaches_MM: NDArray[np.bool_]) -> list[list[int]]:
    """Strongly connected parts of the graph "has beaten or tied with", the largest first."""
    size = len(reaches_MM)
    chain_MM = reaches_MM | np.eye(size, dtype=np.bool_)
    for _ in range(max(1, size.bit_length())):
        chain_MM = (chain_MM.astype(np.int64) @ chain_MM.astype(np.int64)) > 0
    both_MM = chain_MM & chain_MM.T
    parts = {tuple(int(j) for j in np.flatnonzero(both_MM[i])) for i in range(size)}
    return [list(part) for part in sorted(parts, key=lambda part: (-len(part), part))]


def _reasons(counts: _Counts, islands: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """One sentence for each island after the first: never met, won everything, lost everything."""
    not_lost_MM = counts.total_MM() if counts.names else np.zeros((0, 0))
    reasons = []
    for members in islands[1:]:
        others = [i for i in range(len(counts.names)) if i not in members]
        gave, took = not_lost_MM[np.ix_(members, others)].sum(), not_lost_MM[np.ix_(others, members)].sum()
        who = ", ".join(counts.names[i] for i in members)
        if not gave and not took:
            reasons.append(f"{who}: never compared with the others")
        elif not took:
            reasons.append(f"{who}: won every comparison with the others, so no upper bound is known")
        elif not gave:
            reasons.append(f"{who}: lost every comparison with the others, so no lower bound is known")
        else:
            reasons.append(f"{who}: won every comparison with some of the others and lost every one with the rest")
    return tuple(reasons)


def _named(
    counts: _Counts,
    members: Sequence[int],
    strength_M: Floats,
    ends: tuple[Floats, Floats],
    places: Sequence[tuple[int, int]],
    nu: float,
) -> Island:
    wins_MM, ties_MM = counts.once()
    ratings = [
        Rating(
            model=counts.names[member],
            rating=_elo(strength_M[i]),
            low=_elo(ends[0][i]) if ends[0][i] > -OPEN_NATS else None,
            high=_elo(ends[1][i]) if ends[1][i] < OPEN_NATS else None,
            places=places[i],
            wins=int(wins_MM[member].sum()),
            ties=int(ties_MM[member].sum()),
            losses=int(wins_MM[:, member].sum()),
        )
        for i, member in enumerate(members)
    ]
    return Island(ratings=tuple(sorted(ratings, key=lambda one: (-one.rating, one.model))), tie_weight=nu)


def _elo(strength: float) -> float:
    return float(MEAN_RATING + PER_NAT * strength)


def _pairs(counts: _Counts) -> tuple[Matchup, ...]:
    wins_MM, ties_MM = counts.once() if counts.names else (np.zeros((0, 0)), np.zeros((0, 0)))
    return tuple(
        Matchup(first=first, second=second, won=int(wins_MM[i, j]), tied=int(ties_MM[i, j]), lost=int(wins_MM[j, i]))
        for i, first in enumerate(counts.names)
        for j, second in enumerate(counts.names)
        if i < j and wins_MM[i, j] + wins_MM[j, i] + ties_MM[i, j]
    )
