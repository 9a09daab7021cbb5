"""The parts of the report's charts: lines, dots, ticks and labels with their positions. The templates draw them.

Horizontal positions are per cent of the plot, vertical ones pixels from its top, so that a chart stretches with the
page while its text keeps its size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assent.evals import axes
from assent.evals.axes import HEIGHT, Point, Scale, domain, number, per_cent, smoothed, span, thinned, x_text
from assent.evals.intervals import Interval
from assent.evals.reward_quality import CalibrationBin

TABLE_ROWS = 12
SHORT_LABEL = 6  # characters that fit the narrow margin
EDGE = 85.0  # per cent; lines that end further left carry their label there


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on an axis: per cent on a horizontal one, pixels on a vertical one."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line to draw. `colour` is one of the style sheet; `smooth` draws a trend over a faint raw line."""

    name: str
    colour: str
    points: tuple[Point, ...]
    smooth: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A drawn line: `path` and `faint` are polyline points in a box 1000 wide and HEIGHT high."""

    name: str
    colour: str
    path: str
    faint: str
    end_x: float
    end_y: float
    label_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A dot with an optional whisker (`low_y` below `high_y` in value) and an optional word beside it."""

    x: float
    y: float
    low_y: float
    high_y: float
    colour: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """What the template draws. `hover` is JSON for the script; `head` and `rows` are the table alternative."""

    title: str
    caption: str
    x_name: str
    summary: str
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    hover: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    guide: str = ""  # a dashed line, as polyline points
    room: str = ""  # how much room the labels need: "", "labelled" or "roomy"
    height: int = HEIGHT


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    caption: str = "",
    x_name: str = "step",
    zero_y: bool = False,
    peaks: Sequence[tuple[str, float, float]] = (),
) -> LineChart | None:
    """A chart of lines over a shared x axis, or None if there is nothing to draw.

    An axis named KL is spaced by square roots. `peaks` are (colour, x, y) places to mark with the word "peak".
    """
    drawn = [(one, thinned(one.points)) for one in series if len(one.points) > 1]
    if not drawn:
        return None
    x = _x_scale([px for _, points in drawn for px, _ in points], root=x_name.startswith("KL"))
    low_y, high_y = domain([py for _, points in drawn for _, py in points], zero=zero_y)
    y = Scale(low=low_y, high=high_y)
    trends = [smoothed(points) if one.smooth else points for one, points in drawn]
    label_ys = _label_places([(x.x(points[-1][0]), y.y(points[-1][1])) for points in trends])
    names = [one.name for one, _ in drawn]
    lines = tuple(
        Line(
            name=one.name if len(drawn) > 1 else "",
            colour=one.colour,
            path=_path(trend, x, y),
            faint=_path(points, x, y) if one.smooth else "",
            end_x=x.x(trend[-1][0]),
            end_y=y.y(trend[-1][1]),
            label_y=label_y,
        )
        for (one, points), trend, label_y in zip(drawn, trends, label_ys, strict=True)
    )
    head, rows = _table(x_name, [(one.name, points) for one, points in drawn])
    return LineChart(
        title=title,
        caption=caption,
        x_name=x_name,
        summary=_summary(title, names, trends),
        lines=lines,
        marks=tuple(_mark(colour, x.x(px), [y.y(py)] * 3, "peak") for colour, px, py in peaks),
        x_ticks=_x_ticks(x),
        y_ticks=_y_ticks(y),
        hover=_hover(x_name, drawn, x, y),
        head=head,
        rows=rows,
        room="" if len(names) < 2 else "roomy" if max(map(len, names)) > SHORT_LABEL else "labelled",
    )


def calibration_chart(title: str, curve: Sequence[CalibrationBin], *, low: float, caption: str) -> LineChart:
    """Observed rate over predicted probability from `low` to 1, whiskers from Wilson's interval, and the diagonal."""
    x = Scale(low=low, high=1.0)
    y = Scale(low=min(low, min(part.observed.low for part in curve)), high=1.0)
    points = [(part.predicted, part.observed.mean) for part in curve]
    seen = [(part.observed.mean, part.observed.low, part.observed.high) for part in curve]
    marks = tuple(_mark("blue", x.x(part.predicted), map(y.y, ys)) for part, ys in zip(curve, seen, strict=True))
    line = Series(name="observed", colour="blue", points=tuple(points))
    return LineChart(
        title=title,
        caption=caption,
        x_name="predicted probability",
        summary=f"{title}: {len(curve)} bins; the dashed diagonal is perfect.",
        lines=(),
        marks=marks,
        guide=_path([(low, low), (1.0, 1.0)], x, y),
        x_ticks=_x_ticks(x),
        y_ticks=_y_ticks(y),
        hover=_hover("predicted", [(line, points)], x, y),
        head=("predicted", "observed", "95 % interval", "count"),
        rows=tuple(
            (per_cent(p.predicted, 1), per_cent(p.observed.mean, 1), span(p.observed, share=True), str(p.count))
            for p in curve
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One estimate in a row: per cent positions, its value as text, and what a screen reader says."""

    name: str
    colour: str
    at: float
    low: float
    high: float
    value: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a row chart: its name with a `note` below it, its dots, and the value written at its end.

    `link` is the id of the part of the page that the name leads to.
    """

    name: str
    colour: str
    dots: tuple[Dot, ...]
    value: str = ""
    detail: str = ""
    note: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChart:
    """Estimates side by side on one horizontal axis; `reference` is a dashed line (the ceiling, a coin's 50 %).

    `zero` is the place where stems begin, in per cent.
    """

    title: str
    caption: str
    rows: tuple[Row, ...]
    x_ticks: tuple[Tick, ...]
    reference: Tick | None = None
    zero: float = 0.0


def dot(name: str, colour: str, interval: Interval, scale: Scale) -> Dot:
    """The place of an interval on `scale`."""
    return Dot(
        name=name,
        colour=colour,
        at=scale.x(interval.mean),
        low=scale.x(interval.low),
        high=scale.x(interval.high),
        value=number(interval.mean),
        title=f"{name}: {number(interval.mean)}" + (f" ({span(interval)}, n = {interval.n})" if interval.n else ""),
    )


def _path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    return " ".join(f"{10 * x.x(px):g},{y.y(py):g}" for px, py in points)


def _summary(title: str, names: Sequence[str], trends: Sequence[Sequence[Point]]) -> str:
    parts = [
        f"{name} from {number(points[0][1])} to {number(points[-1][1])}"
        for name, points in zip(names, trends, strict=True)
    ]
    return f"{title}: {'; '.join(parts)}."


def _x_scale(values: Sequence[float], *, root: bool) -> Scale:
    low, high = (0.0 if root else min(values)), max(values)
    return Scale(low=low, high=high if high > low else low + 1, root=root)


def _mark(colour: str, x: float, ys: Iterable[float], text: str = "") -> Mark:
    y, low_y, high_y = ys
    return Mark(x=x, y=y, low_y=low_y, high_y=high_y, colour=colour, text=text)


def _label_places(ends: Sequence[Point]) -> list[float]:
    """Heights of the labels: those at the right edge keep apart, a line that ends early has room of its own."""
    edge = [i for i, (end_x, _) in enumerate(ends) if end_x > EDGE]
    places = [end_y for _, end_y in ends]
    for i, place in zip(edge, axes.spread_apart([places[i] for i in edge]), strict=True):
        places[i] = place
    return places


def _x_ticks(x: Scale) -> tuple[Tick, ...]:
    values = axes.root_ticks(x.high) if x.root else axes.ticks(x.low, x.high)
    return tuple(
        Tick(at=x.x(value), text=f"{value:g}" if x.root else axes.tick_text(value, values)) for value in values
    )


def _y_ticks(y: Scale) -> tuple[Tick, ...]:
    values = axes.ticks(y.low, y.high, about=5)
    return tuple(Tick(at=y.y(value), text=axes.tick_text(value, values)) for value in values)


def _hover(x_name: str, drawn: Sequence[tuple[Series, Sequence[Point]]], x: Scale, y: Scale) -> str:
    series = []
    for one, points in drawn:
        places = [[x.x(px), y.y(py), x_text(px), number(py)] for px, py in points]
        series.append({"name": one.name, "colour": one.colour, "points": places})
    return json.dumps({"x": x_name, "series": series}, separators=(",", ":"))


def _table(
    x_name: str, drawn: Sequence[tuple[str, Sequence[Point]]]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Head and a dozen evenly spaced rows; series with x values of their own get an x column of their own."""
    head: list[str] = []
    columns: list[list[str]] = []
    for i, (name, points) in enumerate(drawn):
        count = min(TABLE_ROWS, len(points))
        picked = [points[round(k * (len(points) - 1) / (count - 1))] for k in range(count)]
        xs = [x_text(px) for px, _ in picked]
        if i == 0 or xs != columns[0]:
            head.append(x_name)
            columns.append(xs)
        head.append(name)
        columns.append([number(py) for _, py in picked])
    longest = max(len(column) for column in columns)
    rows = [tuple(column[k] if k < len(column) else "" for column in columns) for k in range(longest)]
    return tuple(head), tuple(rows)
