"""From evidence to charts: which lines and rows each section of the report shows. What is absent gives no chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from assent.evals.arms import ORACLE, Arm, judge_name
from assent.evals.axes import Scale, count_text, domain, number, per_cent, smoothed_path, span, tick_text, ticks
from assent.evals.charts import Dot, LineChart, Row, RowChart, Series, Tick, calibration_chart, dot, line_chart
from assent.evals.evidence import Evidence, Measurement
from assent.evals.gold import AXES
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import CurvePoint
from assent.world.prompts import KIND_MEANINGS


def gold_charts(evidence: Evidence) -> list[RowChart]:
    """Overall first, then helpful, honest and harmless: arms as rows, ideal answers as a dashed line."""
    if not evidence.gold:
        return []
    scale = Scale(low=0.0, high=1.0)
    charts = []
    for axis in AXES:
        means = {arm: scores.axis(axis) for arm, scores in evidence.gold.items()}
        oracle = means.pop(ORACLE, None)
        reference = (
            Tick(at=scale.x(oracle.mean), text=f"{evidence.name_of(ORACLE).lower()} {number(oracle.mean)}")
            if oracle
            else None
        )
        caption = f"0 to 1, {count_text(means.values(), 'prompts')}" if axis == AXES[0] else ""
        rows = tuple(_row(evidence.arm(arm), interval, scale) for arm, interval in means.items())
        title = axis.capitalize()
        charts.append(RowChart(title=title, caption=caption, rows=rows, x_ticks=_ticks(scale), reference=reference))
    return charts


def measured_charts(evidence: Evidence) -> list[RowChart]:
    """What was measured on held-out data. Only values on one scale share an axis; the caption names the scale."""
    together: dict[tuple[str, ...], list[tuple[str, Evidence, Measurement]]] = {}
    for run, part in evidence.each.items():
        for found in part.measurements:
            together.setdefault(found.scale, []).append((run, part, found))
    return [_measured_rows(found) for found in together.values()]


def _measured_rows(found: Sequence[tuple[str, Evidence, Measurement]]) -> RowChart:
    name, unit, judge, items = found[0][2].scale
    rows: dict[str, tuple[Arm, Interval]] = {}
    for run, part, one in found:
        for key, value in one.values.items():
            arm = part.arm(key)
            shown = f"{run}: {arm.name.lower()}" if run and key != run else run or arm.name
            rows[shown] = replace(arm, name=shown), value
    values = [value for _, value in rows.values()]
    low, high = domain([end for value in values for end in (value.low, value.high)], zero=True)
    scale = Scale(low=low, high=high)
    caption = f"{unit}{f', {judge_name(judge)}' if judge else ''}; {items}; {count_text(values, found[0][2].counted)}"
    drawn = tuple(_row(arm, value, scale) for arm, value in rows.values())
    return RowChart(title=f"Held-out {name}", caption=caption, rows=drawn, x_ticks=_ticks(scale))


def kind_chart(evidence: Evidence) -> RowChart | None:
    """Overall gold by kind of prompt, a track for each arm."""
    if not evidence.gold_by_kind:
        return None
    scale = Scale(low=0.0, high=1.0)
    rows = []
    for kind, arms in evidence.gold_by_kind.items():
        shown = [(evidence.arm(arm), scores.overall) for arm, scores in arms.items() if arm != ORACLE]
        rows.append(
            Row(
                name=kind.replace("_", " "),
                colour="ink",
                dots=tuple(dot(arm.name, arm.colour, overall, scale) for arm, overall in shown),
                note="; ".join(
                    filter(None, (KIND_MEANINGS.get(kind), count_text([overall for _, overall in shown], "prompts")))
                ),
            )
        )
    return RowChart(title="Overall gold score by kind of prompt", caption="", rows=tuple(rows), x_ticks=_unit_ticks())


def win_chart(evidence: Evidence) -> RowChart | None:
    """Win rates against 50 %."""
    if not evidence.win_rates:
        return None
    scale = Scale(low=0.0, high=1.0)
    judges, rows = {win.judge for win in evidence.win_rates}, []
    for win in evidence.win_rates:
        arm, other = evidence.arm(win.arm), evidence.arm(win.against)
        name = f"{arm.name} over {other.name}"
        rows.append(
            Row(
                name=name if len(judges) == 1 else f"{name} ({win.judge})",
                colour=arm.colour,
                dots=(dot(name, arm.colour, win.rate, scale),),
                value=per_cent(win.rate.mean),
                detail=span(win.rate, share=True),
            )
        )
    half = Tick(at=50.0, text="even")
    caption = f"judged by {' and '.join(sorted(judge_name(judge) for judge in judges))}; "
    caption += count_text([win.rate for win in evidence.win_rates], "prompts")
    return RowChart(
        title="Share of prompts won", caption=caption, rows=tuple(rows), x_ticks=_share_ticks(0.0), reference=half
    )


def over_optimisation_charts(evidence: Evidence) -> list[LineChart]:
    """Proxy and gold, each against step and against KL."""
    over = evidence.over_optimisation
    if over is None:
        return []
    charts = []
    for title, value in (("Proxy reward", _proxy), ("Gold score", _gold)):
        for x_name, place in (("iteration", _step), ("KL, nats a completion", _kl)):
            series, peaks = [], []
            for key, curve in over.curves.items():
                arm, points = evidence.arm(key), _points(curve, place, value)
                if place is _kl:  # a wandering KL would fold the line over itself
                    points = smoothed_path(points)
                series.append(Series(name=arm.name, colour=arm.colour, points=points))
                found = over.verdicts.get(key)
                if value is _gold and found is not None and found.over_optimised:
                    at = next(i for i, point in enumerate(curve) if point.step == found.gold_peak_step)
                    peaks.append((arm.colour, *points[at]))
            against = "KL, square-root scale" if place is _kl else x_name
            caption = f"held-out prompts, against {against}"
            if value is _proxy and evidence.reward_unit:
                caption = f"{evidence.reward_unit}; {caption}"
            charts.append(line_chart(title, series, caption=caption, x_name=x_name, peaks=peaks))
    return [chart for chart in charts if chart is not None]


def accuracy_chart(evidence: Evidence) -> RowChart | None:
    """Held-out pair accuracy beside the best possible, from a coin's 50 % up."""
    quality = evidence.reward_model
    if quality is None:
        return None
    low = min(0.5, quality.accuracy_interval.low)
    scale = Scale(low=low, high=1.0)
    row = Row(
        name="Accuracy",
        colour="blue",
        dots=(dot("Accuracy", "blue", quality.accuracy_interval, scale),),
        value=per_cent(quality.accuracy, 1),
        detail=span(quality.accuracy_interval, share=True),
    )
    best = quality.best_possible
    reference = Tick(at=scale.x(best), text=f"best possible {per_cent(best, 1)}") if best is not None else None
    caption = f"{quality.pairs} held-out pairs, {count_text([quality.accuracy_interval], 'judgements')}"
    title = "Held-out pairs ranked right" + (" (expected over the soft labels)" if quality.soft else "")
    return RowChart(title=title, caption=caption, rows=(row,), x_ticks=_share_ticks(low), reference=reference)


def length_chart(evidence: Evidence) -> RowChart | None:
    """How often the longer answer wins: by the model and by the labels it learned from."""
    bias = evidence.reward_model.length_bias if evidence.reward_model else None
    if bias is None:
        return None
    scale = Scale(low=0.0, high=1.0)
    shares = (("Reward model", "blue", bias.longer_wins), ("Labels", "grey", bias.longer_wins_in_labels))
    rows = tuple(
        Row(name=name, colour=tint, dots=(_point(name, tint, share, scale),), value=per_cent(share))
        for name, tint, share in shares
    )
    pairs = f"{evidence.reward_model.pairs} pairs" if evidence.reward_model else ""
    caption = f"{pairs}; correlation of reward and length within pairs: {number(bias.correlation)}"
    half = Tick(at=50.0, text="even")
    return RowChart(
        title="The longer answer wins", caption=caption, rows=rows, x_ticks=_share_ticks(0.0), reference=half
    )


def reward_calibration(evidence: Evidence) -> LineChart | None:
    """The calibration of the reward model, folded to the side it prefers."""
    quality = evidence.reward_model
    if quality is None or not quality.calibration:
        return None
    caption = f"How sure the model is against how often it is right; {quality.pairs} pairs. ECE {number(quality.ece)}"
    return calibration_chart("Calibration", quality.calibration, low=0.5, caption=caption)


def classifier_calibration(evidence: Evidence) -> LineChart | None:
    """The calibration of a classifier over [0, 1]."""
    quality = evidence.classifier
    if quality is None or not quality.calibration:
        return None
    caption = f"Predicted against observed; {quality.count} labels. ECE {number(quality.ece)}"
    return calibration_chart("Calibration of the classifier", quality.calibration, low=0.0, caption=caption)


def time_chart(evidence: Evidence) -> RowChart | None:
    """Where the time went."""
    if not evidence.stage_s:
        return None
    high = max(*evidence.stage_s.values(), 1e-9)
    scale = Scale(low=0.0, high=high * 1.02)
    rows = tuple(
        Row(
            name=stage.replace("_", " "),
            colour="muted",
            dots=(_point(stage, "muted", seconds, scale),),
            value=f"{number(seconds)} s",
            detail="side by side" if stage in evidence.concurrent_stages else "",
        )
        for stage, seconds in evidence.stage_s.items()
    )
    caption = "Stages marked side by side ran while others did, so the sum is more than the wall time."
    caption = caption if evidence.concurrent_stages else ""
    return RowChart(title="Seconds by stage", caption=caption, rows=rows, x_ticks=_ticks(scale, about=3))


def _ticks(scale: Scale, about: int = 4) -> tuple[Tick, ...]:
    values = ticks(scale.low, scale.high, about=about)
    return tuple(Tick(at=scale.x(value), text=tick_text(value, values)) for value in values)


def _row(arm: Arm, interval: Interval, scale: Scale) -> Row:
    return Row(
        name=arm.name,
        colour=arm.colour,
        dots=(dot(arm.name, arm.colour, interval, scale),),
        value=number(interval.mean),
        detail=span(interval),
    )


def _point(name: str, tint: str, value: float, scale: Scale) -> Dot:
    return dot(name, tint, Interval(mean=value, low=value, high=value), scale)


def _unit_ticks() -> tuple[Tick, ...]:
    return tuple(Tick(at=20.0 * i, text=f"{0.2 * i:.1f}") for i in range(6))


def _share_ticks(low: float) -> tuple[Tick, ...]:
    scale, values = Scale(low=low, high=1.0), ticks(low, 1.0)
    return tuple(Tick(at=scale.x(value), text=per_cent(value)) for value in values)


def _points(
    curve: Sequence[CurvePoint], place: Callable[[CurvePoint], float], value: Callable[[CurvePoint], float | None]
) -> tuple[tuple[float, float], ...]:
    pairs = [(place(point), value(point)) for point in curve]
    return tuple((x, y) for x, y in pairs if y is not None)


def _step(point: CurvePoint) -> float:
    return float(point.step)


def _kl(point: CurvePoint) -> float:
    return max(0.0, point.kl)


def _proxy(point: CurvePoint) -> float:
    return point.proxy


def _gold(point: CurvePoint) -> float | None:
    return point.gold
