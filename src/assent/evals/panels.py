"""From evidence to charts: which lines and rows each section of the report shows. What is absent gives no chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from assent.evals.arms import ORACLE, Arm, judge_name
from assent.evals.axes import Scale, count_text, domain, number, per_cent, smoothed_path, span, tick_text, ticks
from assent.evals.charts import LineChart, Row, RowChart, Series, Tick, calibration_chart, dot, line_chart
from assent.evals.evidence import Evidence, Measurement
from assent.evals.gold import AXES
from assent.evals.intervals import Interval
from assent.world.prompts import KIND_MEANINGS

_UNIT = Scale(low=0.0, high=1.0)
_EVEN = Tick(at=50.0, text="even")


def gold_charts(evidence: Evidence) -> list[RowChart]:
    """Overall first, then helpful, honest and harmless: arms as rows, ideal answers as a dashed line."""
    if not evidence.gold:
        return []
    charts = []
    for axis in AXES:
        means, reference = {arm: scores.axis(axis) for arm, scores in evidence.gold.items()}, None
        if oracle := means.pop(ORACLE, None):
            text = f"{evidence.name_of(ORACLE).lower()} {number(oracle.mean)}"
            reference = Tick(at=_UNIT.x(oracle.mean), text=text)
        caption = f"0 to 1, {count_text(means.values(), 'prompts')}" if axis == AXES[0] else ""
        rows = tuple(_row(evidence.arm(arm), interval, _UNIT) for arm, interval in means.items())
        title = axis.capitalize()
        charts.append(RowChart(title=title, caption=caption, rows=rows, x_ticks=_ticks(_UNIT), reference=reference))
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
    rows = []
    for kind, arms in evidence.gold_by_kind.items():
        shown = [(evidence.arm(arm), scores.overall) for arm, scores in arms.items() if arm != ORACLE]
        dots = tuple(dot(arm.name, arm.colour, overall, _UNIT) for arm, overall in shown)
        notes = KIND_MEANINGS.get(kind), count_text([overall for _, overall in shown], "prompts")
        rows.append(Row(name=kind.replace("_", " "), colour="ink", dots=dots, note="; ".join(filter(None, notes))))
    x_ticks = _ticks(_UNIT, about=5)
    return RowChart(title="Overall gold score by kind of prompt", caption="", rows=tuple(rows), x_ticks=x_ticks)


def win_chart(evidence: Evidence) -> RowChart | None:
    """Win rates against 50 %."""
    if not evidence.win_rates:
        return None
    judges, rows = {win.judge for win in evidence.win_rates}, []
    for win in evidence.win_rates:
        arm = evidence.arm(win.arm)
        shown = replace(arm, name=f"{arm.name} over {evidence.name_of(win.against)}")
        row = _row(shown, win.rate, _UNIT, value=per_cent(win.rate.mean), detail=span(win.rate, share=True))
        rows.append(row if len(judges) == 1 else replace(row, name=f"{row.name} ({win.judge})"))
        if (controlled := win.length_controlled) is not None:
            equal = replace(arm, name="at equal length")
            shown_rate, ends = per_cent(controlled.mean), span(controlled, share=True)
            rows.append(_row(equal, controlled, _UNIT, value=shown_rate, detail=ends))
    caption = f"judged by {' and '.join(sorted(judge_name(judge) for judge in judges))}; "
    caption += count_text([win.rate for win in evidence.win_rates], "prompts")
    return _share_chart("Share of prompts won", caption, rows, reference=_EVEN)


def over_optimisation_charts(evidence: Evidence) -> list[LineChart]:
    """Proxy and gold, each against step and against KL."""
    over = evidence.over_optimisation
    if over is None:
        return []
    charts = []
    measured = (("Proxy reward", "proxy"), ("Gold score" if over.judge == "gold" else over.judge.capitalize(), "gold"))
    places = (("iteration", "step"), ("KL, nats a completion", "kl"))
    for (title, value), (x_name, place) in product(measured, places):
        series, peaks = [], []
        for key, curve in over.curves.items():
            arm, found = evidence.arm(key), over.verdicts.get(key)
            points = tuple((max(0.0, float(getattr(point, place))), float(getattr(point, value))) for point in curve)
            if place == "kl":  # a wandering KL would fold the line over itself
                points = smoothed_path(points)
            series.append(Series(name=arm.name, colour=arm.colour, points=points))
            if value == "gold" and found is not None and found.over_optimised:
                at = next(i for i, point in enumerate(curve) if point.step == found.gold_peak_step)
                peaks.append((arm.colour, *points[at]))
        caption = f"held-out prompts, against {'KL, square-root scale' if place == 'kl' else x_name}"
        if value == "proxy" and evidence.reward_unit:
            caption = f"{evidence.reward_unit}; {caption}"
        charts.append(line_chart(title, series, caption=caption, x_name=x_name, peaks=peaks))
    return [chart for chart in charts if chart is not None]


def accuracy_chart(evidence: Evidence) -> RowChart | None:
    """Held-out pair accuracy beside the best possible, from a coin's 50 % up; also by which answer people chose."""
    quality = evidence.reward_model
    if quality is None:
        return None
    interval, best, bias = quality.accuracy_interval, quality.best_possible, quality.length_bias
    shown: list[tuple[str, Interval | None]] = [("Accuracy", interval)]
    if bias is not None:
        shown += [("longer chosen", bias.longer_chosen), ("shorter chosen", bias.shorter_chosen)]
    found = [(Arm(name=name, colour="blue"), one) for name, one in shown if one is not None]
    scale = Scale(low=min(0.5, *(one.low for _, one in found)), high=1.0)
    rows = [_row(arm, one, scale, value=per_cent(one.mean, 1), detail=span(one, share=True)) for arm, one in found]
    reference = Tick(at=scale.x(best), text=f"best possible {per_cent(best, 1)}") if best is not None else None
    if best is None and scale.low < 0.5:
        reference = Tick(at=scale.x(0.5), text="a coin")
    caption = f"{quality.pairs} held-out pairs, {count_text([interval], 'label groups')}"
    title = "Held-out pairs ranked right" + (" (expected over the soft labels)" if quality.soft else "")
    return _share_chart(title, caption, rows, scale, reference=reference)


def length_chart(evidence: Evidence) -> RowChart | None:
    """How often the longer answer wins: by the model and by the labels it learned from."""
    quality = evidence.reward_model
    if quality is None or quality.length_bias is None:
        return None
    bias = quality.length_bias
    shares = (("Reward model", "blue", bias.longer_wins), ("Labels", "grey", bias.longer_wins_in_labels))
    rows = [_row(Arm(name=name, colour=tint), _bare(one), _UNIT, value=per_cent(one)) for name, tint, one in shares]
    caption = f"{quality.pairs} pairs; correlation of reward and length within pairs: {number(bias.correlation)}"
    return _share_chart("The longer answer wins", caption, rows, reference=_EVEN)


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
    rows = []
    for stage, seconds in evidence.stage_s.items():
        detail = "side by side" if stage in evidence.concurrent_stages else ""
        shown = Arm(name=stage.replace("_", " "))
        rows.append(_row(shown, _bare(seconds), scale, value=f"{number(seconds)} s", detail=detail))
    caption = "Stages marked side by side ran while others did, so the sum is more than the wall time."
    caption = caption if evidence.concurrent_stages else ""
    return RowChart(title="Seconds by stage", caption=caption, rows=tuple(rows), x_ticks=_ticks(scale, about=3))


def _ticks(scale: Scale, about: int = 4) -> tuple[Tick, ...]:
    values = ticks(scale.low, scale.high, about=about)
    return tuple(Tick(at=scale.x(value), text=tick_text(value, values)) for value in values)


def _row(arm: Arm, interval: Interval, scale: Scale, *, value: str = "", detail: str | None = None) -> Row:
    dots = (dot(arm.name, arm.colour, interval, scale),)
    value, detail = value or number(interval.mean), span(interval) if detail is None else detail
    return Row(name=arm.name, colour=arm.colour, dots=dots, value=value, detail=detail)


def _bare(value: float) -> Interval:
    return Interval(mean=value, low=value, high=value)


def _share_chart(
    title: str, caption: str, rows: Sequence[Row], scale: Scale = _UNIT, *, reference: Tick | None
) -> RowChart:
    x_ticks = tuple(Tick(at=scale.x(value), text=per_cent(value)) for value in ticks(scale.low, scale.high))
    return RowChart(title=title, caption=caption, rows=tuple(rows), x_ticks=x_ticks, reference=reference)
