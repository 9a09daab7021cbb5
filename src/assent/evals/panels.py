"""From evidence to charts: which lines and rows each section of the report shows. What is absent gives no chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from assent.evals.arms import ARM_NAMES, arm_name, colour, judge_name, ordered
from assent.evals.axes import Scale, domain, number, per_cent, span, tick_text, ticks, wandered
from assent.evals.charts import (
    Dot,
    LineChart,
    Row,
    RowChart,
    Series,
    Tick,
    calibration_chart,
    dot,
    line_chart,
)
from assent.evals.evidence import Evidence, MetricsRow
from assent.evals.gold import AXES
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import CurvePoint

ITERATION = "iteration"  # the x axis of everything that PPO does: one rollout and the updates with it
METRICS = {  # PPO metrics shown, in order: title, what it is; "gold" only where no curve of the evaluations has it
    "reward": ("Reward", "Mean raw reward of the rollouts, before any normalisation."),
    "gold": ("Gold", "Mean gold score of the same rollouts. Training never sees it."),
    "kl": ("KL to the reference", "Nats a completion; the distance from the frozen SFT model."),
    "entropy": ("Entropy", "Nats a token. Near zero the policy always says the same."),
    "length": ("Length", "Tokens a completion."),
    "unfinished": ("Unfinished", "Share of completions cut at the token limit."),
    "clip_fraction": ("Clip fraction", "Share of tokens whose policy ratio was clipped."),
    "value_loss": ("Value loss", "Squared error of the critic, clipped."),
    "policy_loss": ("Policy loss", "The clipped objective, negated."),
    "explained_variance": ("Explained variance", "Share of the returns' variance that the critic predicts."),
    "penalty_share": (
        "KL penalty against reward",
        "The penalty of a completion, in standard deviations of the starting model's reward.",
    ),
    "reward_normalised": ("Reward that PPO maximises", "Raw reward, less the starting model's mean, in its spreads."),
    "kl_coefficient": ("KL weight", "The coefficient in force at each step."),
}
FOLDED = {"policy_loss", "explained_variance", "reward_normalised", "kl_coefficient"}
STAGES = {
    "sft": ("SFT", {"loss": "training", "eval_loss": "held-out"}, "Nats a token of the demonstrated answers."),
    "reward": ("Reward model", {"loss": "training", "eval_loss": "held-out"}, "Bradley-Terry loss, nats a pair."),
    "dpo": ("DPO", {"loss": "training", "eval_loss": "held-out"}, "Loss in nats a pair."),
}


def gold_charts(evidence: Evidence) -> list[RowChart]:
    """Overall first, then helpful, honest and harmless: arms as rows, the ceiling as a dashed line."""
    if not evidence.gold:
        return []
    scale = Scale(low=0.0, high=1.0)
    charts = []
    for axis in AXES:
        means = {arm: scores.axis(axis) for arm, scores in ordered(evidence.gold).items()}
        ceiling = means.pop("ceiling", None)
        reference = Tick(at=scale.x(ceiling.mean), text=f"ceiling {number(ceiling.mean)}") if ceiling else None
        charts.append(_arm_rows(axis.capitalize(), means, scale, reference))
    return charts


def reward_chart(evidence: Evidence) -> RowChart | None:
    """Mean reward by arm, for runs without a gold judge."""
    if not evidence.reward:
        return None
    low, high = domain([end for one in evidence.reward.values() for end in (one.low, one.high)], zero=True)
    return _arm_rows("Mean reward on held-out prompts", ordered(evidence.reward), Scale(low=low, high=high), None)


def reward_part_charts(evidence: Evidence) -> list[RowChart]:
    """Where several rewards are added up, the mean of each by arm."""
    charts = []
    for name, means in evidence.reward_parts.items():
        low, high = domain([end for one in means.values() for end in (one.low, one.high)], zero=True)
        charts.append(_arm_rows(f"Reward: {name}", ordered(means), Scale(low=low, high=high), None))
    return charts


def kind_chart(evidence: Evidence) -> RowChart | None:
    """Overall gold by kind of prompt, all arms on one line."""
    if not evidence.gold_by_kind:
        return None
    scale = Scale(low=0.0, high=1.0)
    rows = []
    for kind, arms in evidence.gold_by_kind.items():
        shown = [arm for arm in ordered(arms) if arm not in ("ceiling", "no_kl")]
        dots = tuple(
            dot(arm_name(arm), colour(arm), arms[arm].overall, scale)
            for arm in (["ceiling"] if "ceiling" in arms else []) + shown
        )
        last = arms[shown[-1]].overall if shown else None
        rows.append(
            Row(
                name=kind.replace("_", " "),
                colour="ceiling",
                dots=dots,
                value=number(last.mean) if last else "",
                detail=span(last) if last else "",
            )
        )
    return RowChart(title="Overall gold score by kind of prompt", caption="", rows=tuple(rows), x_ticks=_unit_ticks())


def win_chart(evidence: Evidence) -> RowChart | None:
    """Win rates against 50 %."""
    if not evidence.win_rates:
        return None
    scale = Scale(low=0.0, high=1.0)
    judges = {win.judge for win in evidence.win_rates}
    rows = tuple(
        Row(
            name=f"{arm_name(win.arm)} over {arm_name(win.against)}{'' if len(judges) == 1 else f' ({win.judge})'}",
            colour=colour(win.arm),
            dots=(dot(f"{arm_name(win.arm)} over {arm_name(win.against)}", colour(win.arm), win.rate, scale),),
            value=per_cent(win.rate.mean),
            detail=span(win.rate, share=True),
        )
        for win in evidence.win_rates
    )
    half = Tick(at=50.0, text="even")
    caption = f"judged by {' and '.join(sorted(judge_name(judge) for judge in judges))}"
    return RowChart(title="Share of prompts won", caption=caption, rows=rows, x_ticks=_share_ticks(0.0), reference=half)


def over_optimisation_charts(evidence: Evidence) -> list[LineChart]:
    """Proxy and gold, each against step and against KL."""
    over = evidence.over_optimisation
    if over is None:
        return []
    curves = {"ppo": ("PPO", over.ppo), "no_kl": ("no KL", over.no_kl)}
    charts = []
    for title, value in (("Proxy reward", _proxy), ("Gold score", _gold)):
        for x_name, place in ((ITERATION, _step), ("KL, nats a completion", _kl)):
            lines = {arm: _points(curve, place, value) for arm, (_, curve) in curves.items()}
            if place is _kl:  # a wandering KL would fold the line over itself
                lines = {arm: wandered(points) for arm, points in lines.items()}
            series = [Series(name=name, colour=arm, points=lines[arm]) for arm, (name, _) in curves.items()]
            peaks = []
            for arm, (_, curve) in curves.items():
                found = over.verdicts.get(arm)
                if value is _gold and found is not None and found.over_optimised:
                    with_gold = [point for point in curve if point.gold is not None]
                    at = next(i for i, point in enumerate(with_gold) if point.step == found.gold_peak_step)
                    peaks.append((arm, *lines[arm][at]))
            caption = "against KL, square-root scale" if place is _kl else f"against {ITERATION}"
            charts.append(line_chart(title, series, caption=caption, x_name=x_name, peaks=peaks))
    return [chart for chart in charts if chart is not None]


def ppo_charts(evidence: Evidence, *, main: bool) -> list[LineChart]:
    """One small chart a metric; PPO and, where it ran, the arm with KL weight 0. `main` ones stand open on the page."""
    charts = []
    for metric, (title, caption) in (METRICS | _several_rewards(evidence)).items():
        if (metric in FOLDED) == main or (metric == "gold" and evidence.over_optimisation is not None):
            continue
        series = [
            Series(name=name, colour=arm, points=_column(evidence.curves.get(arm, ()), metric, ITERATION), smooth=True)
            for arm, name in (("ppo", "PPO"), ("no_kl", "no KL"))
        ]
        zero = metric in {"kl", "clip_fraction", "unfinished", "penalty_share"}
        charts.append(line_chart(title, series, caption=caption, x_name=ITERATION, zero_y=zero))
    return [chart for chart in charts if chart is not None]


def _several_rewards(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """The curves of rewards that are added up: title and caption by metric."""
    names = dict.fromkeys(name for row in evidence.curves.get("ppo", ()) for name in row if name.startswith("reward/"))
    caption = "Mean raw score of this reward; `reward` is the weighted sum."
    return {name: (f"Reward: {name.removeprefix('reward/')}", caption) for name in names}


def stage_charts(evidence: Evidence) -> list[LineChart]:
    """Loss, accuracy and margin of SFT, the reward model and DPO."""
    charts = []
    for stage, (title, losses, caption) in STAGES.items():
        rows = evidence.curves.get(stage, ())
        lines = [
            Series(name=name, colour=_shade(stage, metric), points=_column(rows, metric), smooth=metric == "loss")
            for metric, name in losses.items()
        ]
        charts.append(line_chart(f"{title}: loss", lines, caption=caption))
        for metric, what in (("accuracy", "Share of pairs ranked right."), ("margin", "Chosen over rejected.")):
            line = Series(name=metric, colour=_shade(stage, metric), points=_column(rows, metric), smooth=True)
            charts.append(line_chart(f"{title}: {metric}", [line], caption=what))
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
        colour="ppo",
        dots=(dot("Accuracy", "ppo", quality.accuracy_interval, scale),),
        value=per_cent(quality.accuracy, 1),
        detail=span(quality.accuracy_interval, share=True),
    )
    best = quality.best_possible
    reference = Tick(at=scale.x(best), text=f"best possible {per_cent(best, 1)}") if best is not None else None
    caption = f"{quality.pairs:,} held-out pairs".replace(",", "\u202f")
    x_ticks = _share_ticks(low)
    return RowChart(
        title="Held-out pairs ranked right", caption=caption, rows=(row,), x_ticks=x_ticks, reference=reference
    )


def length_chart(evidence: Evidence) -> RowChart | None:
    """How often the longer answer wins: by the model and by the labels it learned from."""
    bias = evidence.reward_model.length_bias if evidence.reward_model else None
    if bias is None:
        return None
    scale = Scale(low=0.0, high=1.0)
    shares = (("Reward model", "ppo", bias.longer_wins), ("Labels", "base", bias.longer_wins_in_labels))
    rows = tuple(
        Row(name=name, colour=tint, dots=(_point(name, tint, share, scale),), value=per_cent(share))
        for name, tint, share in shares
    )
    caption = f"Correlation of reward and length within pairs: {number(bias.correlation)}"
    half = Tick(at=50.0, text="even")
    return RowChart(
        title="The longer answer wins", caption=caption, rows=rows, x_ticks=_share_ticks(0.0), reference=half
    )


def reward_calibration(evidence: Evidence) -> LineChart | None:
    """The calibration of the reward model, folded to the side it prefers."""
    quality = evidence.reward_model
    if quality is None or not quality.calibration:
        return None
    caption = f"How sure the model is against how often it is right. ECE {number(quality.ece)}"
    return calibration_chart("Calibration", quality.calibration, low=0.5, caption=caption)


def classifier_calibration(evidence: Evidence) -> LineChart | None:
    """The calibration of a classifier over [0, 1]."""
    quality = evidence.classifier
    if quality is None or not quality.calibration:
        return None
    caption = f"Predicted against observed. ECE {number(quality.ece)}"
    return calibration_chart("Calibration of the classifier", quality.calibration, low=0.0, caption=caption)


def time_chart(evidence: Evidence) -> RowChart | None:
    """Where the time went."""
    if not evidence.stage_s:
        return None
    high = max(*evidence.stage_s.values(), 1e-9)
    scale = Scale(low=0.0, high=high * 1.02)
    rows = tuple(
        Row(
            name=arm_name(stage) if stage in ARM_NAMES else stage.replace("_", " "),
            colour=colour(stage),
            dots=(_point(stage, colour(stage), seconds, scale),),
            value=f"{number(seconds)} s",
        )
        for stage, seconds in evidence.stage_s.items()
    )
    values = ticks(0.0, high, about=3)
    x_ticks = tuple(Tick(at=scale.x(value), text=tick_text(value, values)) for value in values)
    return RowChart(title="Seconds by stage", caption="", rows=rows, x_ticks=x_ticks)


def _arm_rows(title: str, means: Mapping[str, Interval], scale: Scale, reference: Tick | None) -> RowChart:
    rows = tuple(
        Row(
            name=arm_name(arm),
            colour=colour(arm),
            dots=(dot(arm_name(arm), colour(arm), interval, scale),),
            value=number(interval.mean),
            detail=span(interval),
        )
        for arm, interval in means.items()
    )
    values = ticks(scale.low, scale.high)
    x_ticks = tuple(Tick(at=scale.x(value), text=tick_text(value, values)) for value in values)
    return RowChart(title=title, caption="", rows=rows, x_ticks=x_ticks, reference=reference)


def _point(name: str, tint: str, value: float, scale: Scale) -> Dot:
    return dot(name, tint, Interval(mean=value, low=value, high=value), scale)


def _unit_ticks() -> tuple[Tick, ...]:
    return tuple(Tick(at=20.0 * i, text=f"{0.2 * i:.1f}") for i in range(6))


def _share_ticks(low: float) -> tuple[Tick, ...]:
    scale, values = Scale(low=low, high=1.0), ticks(low, 1.0)
    return tuple(Tick(at=scale.x(value), text=per_cent(value)) for value in values)


def _shade(stage: str, metric: str) -> str:
    tint = {"sft": "sft", "dpo": "dpo"}.get(stage, "ppo")
    return "base" if metric == "loss" and stage == "sft" else tint


def _column(rows: Sequence[MetricsRow], metric: str, place: str = "step") -> tuple[tuple[float, float], ...]:
    pairs = [(row.get(place), row.get(metric)) for row in rows]
    return tuple((step, value) for step, value in pairs if step is not None and value is not None)


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
