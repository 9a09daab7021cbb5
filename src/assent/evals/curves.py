"""Training, step by step: one small chart for each metric of PPO and of the stages before it."""

from __future__ import annotations

from collections.abc import Sequence

from assent.evals.charts import LineChart, Series, line_chart
from assent.evals.evidence import Evidence, MetricsRow

ITERATION = "iteration"  # the x axis of everything that PPO does: one rollout and the updates with it
METRICS = {  # PPO metrics shown, in order: title, what it is; "gold" only where no curve of the evaluations has it
    "reward": ("Reward", "Mean reward of the rollouts, before any normalisation{unit}."),
    "gold": ("Gold", "Mean gold score of the same rollouts. Training never sees it."),
    "kl": ("KL to the reference", "Nats per completion; the distance from the model that training started from."),
    "kl_penalty": ("KL penalty", "What the KL takes from the reward of a completion, in units of what PPO maximises."),
    "penalty_share": (
        "Penalty against reward",
        "The penalty of a completion, in standard deviations of the starting model's reward.",
    ),
    "entropy": ("Entropy", "Nats per token. Near 0 the policy always says the same."),
    "length": ("Length", "Tokens per completion."),
    "truncated_fraction": ("Unfinished", "Share of completions cut at the token limit."),
    "clip_fraction": ("Clip fraction", "Share of tokens whose policy ratio was clipped."),
    "value_loss": ("Value loss", "Squared error of the critic, clipped; in the units of training, squared."),
    "policy_loss": ("Policy loss", "The clipped objective, negated. Its level says nothing; sudden jumps do."),
    "explained_variance": ("Explained variance", "Share of the returns' variance that the critic predicts."),
    "reward_normalised": (
        "Reward that PPO maximises",
        "0: the starting model's mean; 1: its standard deviation above it.",
    ),
    "kl_coef": ("KL weight", "The coefficient in force at each iteration."),
    "reward_std": ("Spread of the reward", "Standard deviation over the completions of an iteration{unit}."),
}
FOLDED = {"policy_loss", "explained_variance", "reward_normalised", "kl_coef", "reward_std"}
STAGES = {
    "pretrain": ("Pretraining", "Nats per token."),
    "sft": ("SFT", "Nats per token of the demonstrated answers."),
    "reward": ("Reward model", "Loss per item: nats per pair, ranking or label."),
    "dpo": ("DPO", "Loss, nats per pair."),
}
STAGE_METRICS = {  # what a stage has beside its loss
    "accuracy": "Share of pairs ranked right.",
    "margin": "Reward of the preferred answer less that of the other, in the model's own units.",
}


def ppo_charts(evidence: Evidence, *, main: bool) -> list[LineChart]:
    """One small chart a metric; PPO and, where it ran, the arm with KL weight 0. `main` ones stand open on the page."""
    charts = []
    unit = f": {evidence.reward_unit}" if evidence.reward_unit else ""
    for metric, (title, caption) in {**METRICS, **_single_rewards(evidence)}.items():
        if (metric in FOLDED) == main or (metric == "gold" and evidence.over_optimisation is not None):
            continue
        series = [
            Series(name=name, colour=arm, points=_column(evidence.curves.get(arm, ()), metric, ITERATION), smooth=True)
            for arm, name in (("ppo", "PPO"), ("no_kl", "no KL"))
        ]
        zero = metric in {"kl", "clip_fraction", "truncated_fraction", "kl_penalty", "penalty_share"}
        charts.append(line_chart(title, series, caption=caption.format(unit=unit), x_name=ITERATION, zero_y=zero))
    return [chart for chart in charts if chart is not None]


def _single_rewards(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Where several rewards are added up, each has a column of its own: `reward/NAME`."""
    columns = dict.fromkeys(
        name for row in evidence.curves.get("ppo", ()) for name in row if name.startswith("reward/")
    )
    caption = "Mean raw score of this reward over the rollouts; the reward is the weighted sum."
    return {name: (f"Reward: {name.removeprefix('reward/')}", caption) for name in columns}


def stage_charts(evidence: Evidence) -> dict[str, list[LineChart]]:
    """Loss, accuracy and margin by stage: pretraining, SFT, the reward model, DPO."""
    charts: dict[str, list[LineChart]] = {}
    for stage, (title, of_loss) in STAGES.items():
        rows = evidence.curves.get(stage, ())
        for metric, caption in {"loss": of_loss, **STAGE_METRICS}.items():
            held_out = _column(rows, f"eval_{metric}")
            lines = [
                Series(name="held-out", colour=_shade(stage), points=held_out),
                Series(
                    name="training", colour="base" if held_out else _shade(stage), points=_column(rows, metric),
                    smooth=True,
                ),
            ]  # fmt: skip
            if chart := line_chart(metric.capitalize(), lines, caption=caption):
                charts.setdefault(title, []).append(chart)
    return charts


def _shade(stage: str) -> str:
    return {"sft": "sft", "dpo": "dpo"}.get(stage, "ppo")


def _column(rows: Sequence[MetricsRow], metric: str, place: str = "step") -> tuple[tuple[float, float], ...]:
    pairs = [(row.get(place), row.get(metric)) for row in rows]
    return tuple((step, value) for step, value in pairs if step is not None and value is not None)
