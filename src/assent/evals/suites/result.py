"""From what was observed of items to figures with intervals, and to the samples behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assent.evals.intervals import Floats, Interval, bootstrap_sums, wilson
from assent.evals.suites.suite import AXES, Asked, Columns, Figure, Item, Observed, Sums
from assent.seeds import derive

_SHOWN = 12  # samples of a suite on the page, and
_TURNED = 6  # how many of them, at most, are items that the models do not do alike


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFigure:
    """A figure of one or two models; `gained` is that of the last less that of the first, resampled together.

    `kind` is the part of the suite that it is about; empty for the whole. `share` figures lie in [0, 1].
    """

    name: str
    formula: str
    axis: str
    kind: str
    share: bool
    lower_is_better: bool
    neutral: bool
    chance: float | None
    values: Mapping[str, Interval]
    gained: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSample:
    """An item with what each model made of it; `good` says whether that was wanted, where one can say."""

    shown: str
    kind: str
    expected: str
    answers: Mapping[str, str]
    good: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """A suite's figures, and all that a reader needs to compare them: harness, prompt, data, judge, n and date."""

    suite: str
    about: str
    equals: str
    prompt: str
    data: str
    judge: str
    counted: str
    items: int
    left_out: int
    date: str
    figures: tuple[SuiteFigure, ...]
    samples: tuple[SuiteSample, ...]

    @property
    def main(self) -> SuiteFigure:
        """The first figure."""
        return self.figures[0]


def suite_result(
    asked: Asked, seen: Mapping[str, Sequence[Observed]], *, judge: str, date: str, seed: int
) -> SuiteResult:
    """All figures of a suite. `seen` has what was observed of the items, by model; the one to compare with is first."""
    suite = asked.suite
    columns = {arm: [item.measure(one) for item, one in zip(asked.items, found, strict=True)]
               for arm, found in seen.items()}  # fmt: skip
    everything = [_measured(figure, asked.items, columns, "", seed) for figure in suite.figures]
    kinds = sorted({item.kind for item in asked.items})
    for kind in kinds if len(kinds) > 1 else ():
        places = [place for place, item in enumerate(asked.items) if item.kind == kind]
        own = {arm: [found[place] for place in places] for arm, found in columns.items()}
        everything.append(_measured(suite.figures[0], [asked.items[place] for place in places], own, kind, seed))
    return SuiteResult(
        suite=suite.name, about=suite.about, equals=suite.equals, prompt=suite.prompt, data=asked.data, judge=judge,
        counted=suite.counted, items=len(asked.items), left_out=asked.left_out, date=date,
        figures=tuple(one for one in everything if one is not None), samples=_samples(asked, seen, columns),
    )  # fmt: skip


def _measured(
    figure: Figure, items: Sequence[Item], columns: Mapping[str, Sequence[Columns]], kind: str, seed: int
) -> SuiteFigure | None:
    """None where the items say nothing about the figure."""
    groups = [item.group for item in items]
    names = list(dict.fromkeys(name for found in columns.values() for one in found for name in one))
    tables = {arm: _table(found, names) for arm, found in columns.items()}
    of = _statistic(figure, names)
    seed = derive(seed, "suite", figure.name, kind)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {arm: _interval(figure, bootstrap_sums(table, of, seed=seed, groups=groups))
                  for arm, table in tables.items()}  # fmt: skip
        if not all(np.isfinite(value.mean) for value in values.values()):
            return None
        gained = None
        if len(tables) > 1:
            (first, *_, last), width = tables.values(), 2 * len(names)
            gained = bootstrap_sums(
                [*first, *last], lambda sums: of(sums[width:]) - of(sums[:width]), seed=seed, groups=groups
            )
    return SuiteFigure(
        name=figure.name, formula=figure.formula, axis=kind if kind in AXES else figure.axis, kind=kind,
        share=figure.share, lower_is_better=figure.lower_is_better, neutral=figure.neutral, chance=figure.chance,
        values=values, gained=gained,
    )  # fmt: skip


def _table(columns: Sequence[Columns], names: Sequence[str]) -> list[Floats]:
    """The values of every column, 0 where an item has none, and then whether it has one."""
    values = [np.array([one.get(name, 0.0) for one in columns]) for name in names]
    return [*values, *(np.array([float(name in one) for one in columns]) for name in names)]


def _statistic(figure: Figure, names: Sequence[str]) -> Callable[[Sequence[Floats]], Floats]:
    def of(sums: Sequence[Floats]) -> Floats:
        totals, counts = zip(names, sums[: len(names)], strict=True), zip(names, sums[len(names) :], strict=True)
        return np.atleast_1d(figure.of(Sums(totals=dict(totals), counts=dict(counts))))

    return of


def _interval(figure: Figure, found: Interval) -> Interval:
    """Wilson's where all groups agree on a share and resampling shows no spread."""
    agreed = figure.share and found.low == found.high and found.n > 1 and 0 <= found.mean <= 1
    return wilson(found.mean * found.n, found.n) if agreed else found


def _samples(
    asked: Asked, seen: Mapping[str, Sequence[Observed]], columns: Mapping[str, Sequence[Columns]]
) -> tuple[SuiteSample, ...]:
    """First items on which the models differ, then those that the last one does badly, then the others."""
    figure = asked.suite.figures[0]
    last = list(columns)[-1]

    def good(arm: str, place: int) -> bool:
        return (next(iter(columns[arm][place].values())) > 0.5) is not figure.lower_is_better

    every = range(len(asked.items))
    turned = [place for place in every if len({good(arm, place) for arm in columns}) > 1][:_TURNED]
    rest = sorted(set(every) - set(turned), key=lambda place: (good(last, place), place))
    return tuple(
        SuiteSample(
            shown=asked.items[place].shown, kind=asked.items[place].kind, expected=asked.items[place].expected,
            answers={arm: answer_text(asked.items[place], found[place]) for arm, found in seen.items()},
            good={} if figure.neutral else {arm: good(arm, place) for arm in columns},
        )
        for place in [*turned, *rest][:_SHOWN]
    )  # fmt: skip


def answer_text(item: Item, seen: Observed) -> str:
    """What a model wrote, or the option that it chose."""
    return item.options[seen.choice].text.strip() if seen.scores else seen.answer
