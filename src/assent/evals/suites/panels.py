"""What the report shows of suites: a chart for each axis, all figures as a table, and sentences on what changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from assent.evals.axes import Scale, is_clear, per_cent, span, tick_text, ticks
from assent.evals.charts import Row, RowChart, Tick, dot
from assent.evals.evidence import Evidence
from assent.evals.intervals import Interval
from assent.evals.suites.result import SuiteFigure, SuiteResult
from assent.evals.suites.suite import AXES

_SHARE, _SCORE = Scale(low=0.0, high=1.0), Scale(low=-1.0, high=1.0)
_CHARTS = {  # title: axis, what its scale means
    "Helpful": ("helpful", "higher is better"),
    "Honest": ("honest", "higher is better"),
    "Harmless": ("harmless", "higher is better, unless it says otherwise"),
    "Over-refusal": ("over-refusal", "harmless prompts refused: lower is better"),
    "Stereotypes": ("bias", "a model without preference is at 50\u00a0%"),
    "Bias scores": ("bias", "0 is no bias, 1 always with the stereotype"),
    "Other figures": ("", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """A line of the table of all figures, as text."""

    suite: str
    figure: str
    values: tuple[str, ...]
    change: str
    n: str
    formula: str


def suite_charts(evidence: Evidence, run: str) -> list[RowChart]:
    """Shares by axis; scores from -1 to 1 have a chart of their own. Names link to their suite in this `run`'s part."""
    charts = []
    for title, (axis, caption) in _CHARTS.items():
        scale = _SCORE if title == "Bias scores" else _SHARE
        shown = [one for one in _drawn(evidence) if one[1].axis == axis and one[1].share is (scale is _SHARE)]
        if shown:
            charts.append(_chart(evidence, title, caption, shown, scale, run))
    return charts


def _figures(evidence: Evidence) -> Iterator[tuple[SuiteResult, SuiteFigure]]:
    return ((suite, figure) for suite in evidence.suites for figure in suite.figures)


def _drawn(evidence: Evidence) -> list[tuple[SuiteResult, SuiteFigure]]:
    """Those of whole suites, and the parts that are an axis by themselves; the table has the others.

    Nor is there anything to see in a share of faults that is zero.
    """
    return [
        (suite, figure) for suite, figure in _figures(evidence)
        if figure.kind in ("", figure.axis)
        and (figure.axis or not figure.lower_is_better or any(value.mean for value in figure.values.values()))
    ]  # fmt: skip


def _chart(
    evidence: Evidence,
    title: str,
    caption: str,
    shown: Sequence[tuple[SuiteResult, SuiteFigure]],
    scale: Scale,
    run: str,
) -> RowChart:
    rows = []
    for suite, figure in shown:
        dots = []
        for name, value in figure.values.items():
            arm = evidence.arm(name)
            drawn = dot(arm.name, arm.colour, value, scale)
            text = value_text(figure, value.mean)
            told = f"{arm.name}: {text} ({span(value, share=figure.share)}, n = {value.n})"
            dots.append(replace(drawn, value=text, title=told))
        n = next(iter(figure.values.values())).n
        notes = (change_text(figure), "lower is better" if figure.lower_is_better and figure.axis == "harmless" else "",
                 f"n\u00a0=\u00a0{n} {suite.counted}")  # fmt: skip
        name = f"{suite.suite}: {_part(figure)}"
        rows.append(Row(name=name, colour="ink", dots=tuple(dots), note=", ".join(filter(None, notes)),
                        link=f"suite-{suite.suite}{run}"))  # fmt: skip
    values = ticks(scale.low, scale.high)
    texts = [per_cent(one) if scale is _SHARE else tick_text(one, values) for one in values]
    x_ticks = tuple(Tick(at=scale.x(one), text=text) for one, text in zip(values, texts, strict=True))
    return RowChart(title=title, caption=caption, rows=tuple(rows), x_ticks=x_ticks, zero=scale.x(0.0))


def _part(figure: SuiteFigure) -> str:
    return f"{figure.kind}, {figure.name}" if figure.kind else figure.name


def value_text(figure: SuiteFigure, value: float) -> str:
    """A share in per cent, anything else as a number."""
    return per_cent(value) if figure.share else f"{value:z.2f}".replace("-", "\u2212")


def change_text(figure: SuiteFigure) -> str:
    """The change with its interval, in points where the figure is a share; empty for one model."""
    if figure.gained is None:
        return ""
    mean, low, high = (_points(figure, value) for value in (figure.gained.mean, figure.gained.low, figure.gained.high))
    unit = " points" if figure.share else ""
    return f"{mean}{unit} ({low} to {high})" if figure.gained.low < figure.gained.high else f"{mean}{unit}"


def _points(figure: SuiteFigure, value: float) -> str:
    text = f"{100 * value:+z.0f}" if figure.share else f"{value:+z.2f}"
    return "0" if text == "+0" else text.replace("-", "\u2212")


def suite_table(evidence: Evidence) -> list[FigureRow]:
    """Every figure, parts of suites too."""
    return [
        FigureRow(
            suite=suite.suite, figure=_part(figure), formula=figure.formula,
            values=tuple(f"{value_text(figure, one.mean)} ({_ends(figure, one)})" for one in figure.values.values()),
            change=change_text(figure), n=str(next(iter(figure.values.values())).n),
        )
        for suite, figure in _figures(evidence)
    ]  # fmt: skip


def _ends(figure: SuiteFigure, value: Interval) -> str:
    return span(value, share=figure.share) or "no interval"


def suite_checks(evidence: Evidence) -> list[tuple[bool, str]]:
    """What holds of the change on each axis: it clearly gets better; or of over-refusal, it does not clearly rise."""
    found = []
    axes = (*AXES, "over-refusal")
    judged = [
        (suite, figure) for suite, figure in _drawn(evidence) if figure.gained is not None and figure.axis in axes
    ]
    for suite, figure in sorted(judged, key=lambda one: axes.index(one[1].axis)):
        assert figure.gained is not None
        better = (figure.gained.mean < 0) if figure.lower_is_better else figure.gained.mean > 0
        clear = is_clear(figure.gained)
        name = f"{suite.suite}, {_part(figure)}"
        if figure.axis == "over-refusal":
            holds, told = better or not clear, "does not clearly rise" if better or not clear else "clearly rises"
        else:
            holds = better and clear
            told = f"clearly {'improves' if better else 'gets worse'}" if clear else "no clear change"
        found.append((holds, f"{figure.axis.capitalize()} ({name}): {told}, {change_text(figure)}."))
    return found
