"""Simple figures of a project for pages and the command line, from a `Tally`: under a second at a million answers.

    agreement       over pairs of completions that two people judged: 1 for the same word, 1/2 for a tie against a
                    preference, 0 for opposite ones; all pairs of people, control items and repeats left out
    control, self   the same measure of an answer against the known one, and of a silent repeat against the first
    position bias   how often the single best completion stood first, against 1 / K as it would without bias
    useful labels   standing judgements that training may learn from: no skips, flags, repeats or control items
    hours           the time people took over their answers, undone ones too; the cost is hours x cost per hour

Intervals are of 95 %, bootstrap over items (over answers for control and self).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assent.feedback.quality.resampling import Estimate, Floats, Resampling, estimate, undefined
from assent.feedback.quality.tally import KINDS, NO_WORD, REASONS, Tally
from assent.feedback.records import FLAGS, SKIP_REASONS, EventKind, Project

Integers = NDArray[np.int64]
_MOST_BLOCKS = 1000  # more items are resampled in so many blocks of items: as good, and it takes no time
_RESAMPLING = Resampling(seed=0, resamples=1000, method="percentile")
_MS_PER_HOUR = 3_600_000
_CODE = {kind: place for place, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstShown:
    """How often the single best of `answers` stood first, and how often it would by chance."""

    first: float | None
    expected: float | None
    answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFigures:
    """One person's part. `control` and `self_agreement` are None without such answers, of which there were so many."""

    answers: int
    skipped: int
    flagged: int
    undone: int
    median_ms: float
    per_hour: float
    control: float | None
    control_answers: int
    self_agreement: float | None
    repeats: int
    position: FirstShown


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A project's figures. `answers` are standing judgements; costs are None where no cost per hour is set."""

    events: int
    answers: int
    skipped: int
    flagged: int
    undone: int
    by_kind: Mapping[str, int]
    skips: Mapping[str, int]
    flags: Mapping[str, int]
    serves: Mapping[str, float]  # share of useful labels
    useful: int
    hours: float
    per_hour: float
    cost: float | None
    cost_per_useful_label: float | None
    median_ms: float
    agreement: Estimate
    control: Estimate
    self_agreement: Estimate
    position: FirstShown
    people: Mapping[int, PersonFigures] = field(default_factory=dict)

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> Figures:
        """The reverse of `asdict`, after a file of JSON; TypeError or KeyError for what is no such thing."""
        values = dict(told)
        for name in ("agreement", "control", "self_agreement"):
            values[name] = Estimate(**values[name])
        values["position"] = FirstShown(**values["position"])
        values["people"] = {
            int(person): PersonFigures(**{**one, "position": FirstShown(**one["position"])})
            for person, one in values["people"].items()
        }
        return Figures(**values)


def figures(tally: Tally, project: Project) -> Figures:
    """The figures of what the tally has read."""
    with tally.lock:
        view = _View(tally)
        hours = view.hours()
        useful = int(view.useful.sum())
        rate = project.settings.cost_per_hour
        cost = hours * rate if rate else None
        return Figures(
            events=len(view.kind),
            answers=int(view.labelled.sum()),
            skipped=int(view.of_kind(EventKind.SKIP).sum()),
            flagged=int(view.of_kind(EventKind.FLAG).sum()),
            undone=int((view.kind == _CODE[EventKind.UNDO]).sum()),
            by_kind={str(kind): count for kind in KINDS if (count := int(view.of_kind(kind).sum()))},
            skips=view.reasons(EventKind.SKIP, SKIP_REASONS),
            flags=view.reasons(EventKind.FLAG, FLAGS),
            serves=view.serves(tally.serves),
            useful=useful,
            hours=hours,
            per_hour=float(view.standing.sum() / hours) if hours else 0.0,
            cost=cost,
            cost_per_useful_label=cost / useful if cost is not None and useful else None,
            median_ms=float(np.median(view.time_ms[view.standing])) if view.standing.any() else 0.0,
            agreement=_agreement(tally),
            control=_rate(view.control[view.has_control], "no control item was answered"),
            self_agreement=_rate(view.own_agreement, "no silent repeat was answered"),
            position=view.position(np.arange(len(view.kind))),
            people=view.people(),
        )


class _View:
    """The tally's columns as arrays, for as long as one look at them takes."""

    def __init__(self, tally: Tally) -> None:
        columns, items = tally.columns, tally.items
        self.person, self.item, self.kind = map(_array, (columns.person, columns.item, columns.kind))
        self.standing, self.repeat = _array(columns.standing) == 1, _array(columns.repeat) == 1
        self.reason, self.time_ms = _array(columns.reason), _array(columns.time_ms)
        self.shown, self.best_slot = _array(columns.shown), _array(columns.best_slot)
        self.control = np.array(columns.control, dtype=np.float64)
        quiet = np.isin(self.kind, [_CODE[kind] for kind in (EventKind.SKIP, EventKind.FLAG, EventKind.UNDO)])
        self.labelled = self.standing & ~quiet
        self.has_control = self.labelled & ~self.repeat & np.isfinite(self.control)
        self.known = self.item >= 0
        on_control = np.zeros(len(self.kind), dtype=bool)
        on_control[self.known] = _array(items.is_control)[self.item[self.known]] == 1
        self.useful = self.labelled & ~self.repeat & ~on_control
        self.served = _array(items.serves)
        self.own_person, self.own_agreement = _self_agreement(tally, self)

    def of_kind(self, kind: EventKind) -> NDArray[np.bool_]:
        """Standing answers of the kind."""
        return np.asarray(self.standing & (self.kind == _CODE[kind]))

    def hours(self) -> float:
        """Hours that people took over answers."""
        return float(self.time_ms[self.kind != _CODE[EventKind.UNDO]].sum() / _MS_PER_HOUR)

    def reasons(self, kind: EventKind, words: tuple[str, ...]) -> dict[str, int]:
        """How often each reason was given."""
        told = self.reason[self.of_kind(kind) & (self.reason >= 0)]
        counts = np.bincount(told, minlength=len(REASONS))
        return {word: int(counts[REASONS.index(word)]) for word in words if counts[REASONS.index(word)]}

    def serves(self, words: list[str]) -> dict[str, float]:
        """The share of useful labels by what their items serve."""
        rows = self.useful & self.known
        if not rows.any():
            return {}
        counts = np.bincount(self.served[self.item[rows]], minlength=len(words))
        return {word: float(count / counts.sum()) for word, count in zip(words, counts, strict=True) if count}

    def position(self, rows_M: Integers) -> FirstShown:
        """Position bias of the judgements among `rows_M`."""
        best_M, shown_M = self.best_slot[rows_M], self.shown[rows_M]
        told_M = self.labelled[rows_M] & (best_M >= 0) & (shown_M >= 2)
        if not told_M.any():
            return FirstShown(first=None, expected=None, answers=0)
        first, expected = float((best_M[told_M] == 0).mean()), float((1.0 / shown_M[told_M]).mean())
        return FirstShown(first=first, expected=expected, answers=int(told_M.sum()))

    def people(self) -> dict[int, PersonFigures]:
        """Everybody's part: rows sorted by person once, then one slice each."""
        if not len(self.person):
            return {}
        order = np.argsort(self.person, kind="stable")
        people, starts = np.unique(self.person[order], return_index=True)
        slices = np.split(order, starts[1:])
        return {int(person): self._person(int(person), rows) for person, rows in zip(people, slices, strict=True)}

    def _person(self, person: int, rows_M: Integers) -> PersonFigures:
        standing_M, kind_M, time_M = self.standing[rows_M], self.kind[rows_M], self.time_ms[rows_M]
        taken = float(time_M[standing_M].sum())
        control_M = self.control[rows_M][self.has_control[rows_M]]
        own_M = self.own_agreement[self.own_person == person]
        return PersonFigures(
            answers=int(self.labelled[rows_M].sum()),
            skipped=int((standing_M & (kind_M == _CODE[EventKind.SKIP])).sum()),
            flagged=int((standing_M & (kind_M == _CODE[EventKind.FLAG])).sum()),
            undone=int((kind_M == _CODE[EventKind.UNDO]).sum()),
            median_ms=float(np.median(time_M[standing_M])) if standing_M.any() else 0.0,
            per_hour=float(standing_M.sum() * _MS_PER_HOUR / taken) if taken else 0.0,
            control=float(control_M.mean()) if len(control_M) else None,
            control_answers=len(control_M),
            self_agreement=float(own_M.mean()) if len(own_M) else None,
            repeats=len(own_M),
            position=self.position(rows_M),
        )


def _agreement(tally: Tally) -> Estimate:
    """Agreement of two people on a pair, bootstrap over items."""
    better, worse, level = (np.array(tally.cells[sign], dtype=np.float64) for sign in (1, -1, 0))
    total = better + worse + level
    pairs = total * (total - 1) / 2
    shared = (better * (better - 1) + worse * (worse - 1) + level * (level - 1)) / 2 + level * (better + worse) / 2
    if not pairs.any():
        return undefined("no pair was judged by two people")
    counts = np.array(tally.items.count, dtype=np.int64)
    item_of_cell = np.repeat(np.arange(len(counts)), counts * (counts - 1) // 2)
    pairs_N = np.bincount(item_of_cell, weights=pairs, minlength=len(counts))
    shared_N = np.bincount(item_of_cell, weights=shared, minlength=len(counts))
    overlapping = pairs_N > 0
    return _ratio(shared_N[overlapping], pairs_N[overlapping], "no pair was judged by two people")


def _rate(values: Floats, why_undefined: str) -> Estimate:
    return _ratio(values, np.ones_like(values), why_undefined)


def _ratio(above_N: NDArray[Any], below_N: NDArray[Any], why_undefined: str) -> Estimate:
    """sum(above) / sum(below) with a bootstrap interval; `count` is how many items entered."""
    count = len(above_N)
    if not count:
        return undefined(why_undefined)
    blocks = np.arange(count) % min(count, _MOST_BLOCKS)
    above_B, below_B = np.bincount(blocks, weights=above_N), np.bincount(blocks, weights=below_N)

    def statistic(weight_RB: Floats) -> Floats:
        return np.asarray((weight_RB @ above_B) / (weight_RB @ below_B))

    return replace(estimate(statistic, len(above_B), _RESAMPLING, why_undefined=why_undefined), count=count)


def _self_agreement(tally: Tally, view: _View) -> tuple[Integers, Floats]:
    """For each silent repeat the person and the mean agreement with that person's first answer to the item."""
    count_at = _array(tally.columns.sign_count)
    comparable = view.labelled & view.known & (count_at > 0)
    first, again = np.flatnonzero(comparable & ~view.repeat), np.flatnonzero(comparable & view.repeat)
    nothing = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64))
    if not len(first) or not len(again):
        return nothing
    base = int(view.person.max()) + 1
    key = view.item * base + view.person
    order = np.argsort(key[first], kind="stable")
    sorted_keys = key[first][order]
    found = np.minimum(np.searchsorted(sorted_keys, key[again]), len(sorted_keys) - 1)
    original = first[order[found]]
    same = (sorted_keys[found] == key[again]) & (count_at[original] == count_at[again])
    original, again = original[same], again[same]
    if not len(again):
        return nothing
    counts = count_at[again]
    repeat_of_pair = np.repeat(np.arange(len(again)), counts)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    signs, at = _array(tally.signs), _array(tally.columns.sign_at)
    one, other = (signs[np.repeat(at[rows], counts) + within] for rows in (original, again))
    both = (one != NO_WORD) & (other != NO_WORD)
    value = np.where(one == other, 1.0, np.where((one == 0) | (other == 0), 0.5, 0.0))
    pairs = np.bincount(repeat_of_pair[both], minlength=len(again))
    sums = np.bincount(repeat_of_pair[both], weights=value[both], minlength=len(again))
    told = pairs > 0
    return view.person[again[told]], sums[told] / pairs[told]


def _array(column: ArrayLike) -> Integers:
    """A copy: the column goes on growing while the array is in use."""
    return np.array(column, dtype=np.int64)
