"""Training, step by step: one small chart for each metric that a method shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assent.evals.arms import TrainingCurves
from assent.evals.charts import LineChart, Series, line_chart
from assent.evals.evidence import Evidence

METRICS = {  # title, what it is; a metric that is not here has its name for a title
    "loss": ("Loss", "In nats: per token of texts and demonstrations, per pair, ranking or label of preferences."),
    "accuracy": ("Accuracy", "Share of pairs ranked right, or of labels."),
    "margin": ("Margin", "Reward of the preferred answer less that of the other, in the model's own units."),
    "chosen_logp": (
        "Log-probability of the chosen",
        "Nats per token of the preferred answers. If it falls far, the policy unlearns them, whatever the margin.",
    ),
    "rejected_logp": ("Log-probability of the rejected", "Nats per token of the other answers."),
    "chosen_reward": ("Reward of the chosen", "Mean implicit reward of the preferred answers."),
    "rejected_reward": ("Reward of the rejected", "Mean implicit reward of the other answers."),
    "reference_point": ("KL point", "An estimate of the KL to the reference in nats, from answers to other prompts."),
    "q_loss": ("Q loss", "Squared error of both action values of a token against reward and next value."),
    "v_loss": ("V loss", "Squared error of the value of a state, unequal by its side."),
    "q": ("Action value", "Mean of the lesser target of the tokens that were written."),
    "advantage": (
        "Advantage",
        "Mean of the action value less the value of the state, of the tokens that were written.",
    ),
    "cql_loss": ("Conservative loss", "Nats per token of both softmaxes of action values."),
    "behaviour_loss": ("Behaviour loss", "Nats per token of what was written, weighted by advantage if asked."),
    "reward": ("Reward", "Mean reward of the rollouts, before any normalisation{unit}."),
    "gold": ("Gold", "Mean gold score of the same rollouts. Training never sees it."),
    "kl": ("KL to the reference", "Nats per completion; the distance from the model that training started from."),
    "kl_penalty": (
        "KL penalty",
        "What the KL takes from the reward of a completion, in units of the reward that training maximises.",
    ),
    "penalty_share": (
        "Penalty against reward",
        "The penalty of a completion, in standard deviations of the starting model's reward.",
    ),
    "entropy": ("Entropy", "Nats per token. Near 0 the policy always says the same."),
    "length": ("Length", "Tokens per completion."),
    "truncated_fraction": ("Truncated", "Share of completions cut at the token limit."),
    "clip_fraction": ("Clip fraction", "Share of tokens whose policy ratio was clipped."),
    "held_out_reward": ("Held-out reward", "Mean raw score of the reward that training does not see."),
    "eval_repetition": ("Repetition", "Share of four words in a row of a held-out completion that stood in it before."),
    "eval_distinct_2": (
        "Distinct pairs of words",
        "Different pairs of neighbouring words among all of them in the held-out completions. It falls when answers "
        "become alike.",
    ),
    "groups_without_spread": ("Groups without spread", "Share of prompts whose completions all have the same reward."),
    "groups_dropped": ("Groups dropped", "Prompts that were replaced because their completions had the same reward."),
    "learned_fraction": ("Learned from", "Share of the completions that the policy learns from."),
    "cost": ("Cost", "Mean cost of the rollouts, in the cost's own unit; it is to stay under the budget."),
    "multiplier": ("Lagrange multiplier", "What a unit of cost takes from the reward that training maximises."),
    "ptx_loss": ("PTX loss", "Nats per token of the examples that are imitated beside the reward."),
    "cost_value_loss": ("Value loss of the cost", "Squared error of the cost's critic, clipped."),
    "value_loss": ("Value loss", "Squared error of the critic, clipped; in the units of training, squared."),
    "policy_loss": ("Policy loss", "The clipped objective, negated. Its level says nothing; sudden jumps do."),
    "explained_variance": ("Explained variance", "Share of the returns' variance that the critic predicts."),
    "reward_normalised": (
        "Reward that training maximises",
        "0: the starting model's mean; 1: its standard deviation above it.",
    ),
    "kl_coef": ("KL coefficient", "The coefficient in force at each iteration."),
    "reward_std": ("Spread of the reward", "Standard deviation over the completions of an iteration{unit}."),
}
_FROM_ZERO = {
    "groups_without_spread",
    "groups_dropped",
    "kl",
    "clip_fraction",
    "truncated_fraction",
    "kl_penalty",
    "learned_fraction",
    "multiplier",
    "penalty_share",
}
_PART = "reward/"  # where several rewards are added up, each has a column of its own
_OF_PART = "Mean raw score of this reward over the rollouts; the reward is the weighted sum."


def training_charts(evidence: Evidence) -> dict[str, tuple[list[LineChart], list[LineChart]]]:
    """By method, the charts that stand open on the page and those that are folded away."""
    charts = {}
    for method in dict.fromkeys(one.method for one in evidence.training.values()):
        arms = {arm: one for arm, one in evidence.training.items() if one.method == method}
        first = next(iter(arms.values()))
        parts = dict.fromkeys(name for row in first.rows for name in row if name.startswith(_PART))
        drawn = _drawn(evidence, arms, (*first.curves, *parts)), _drawn(evidence, arms, first.folded)
        if any(drawn):
            charts[method] = drawn
    return charts


def _drawn(evidence: Evidence, arms: Mapping[str, TrainingCurves], metrics: Sequence[str]) -> list[LineChart]:
    charts = []
    unit = f": {evidence.reward_unit}" if evidence.reward_unit else ""
    for metric in metrics:
        if evidence.over_optimisation is not None and metric in ("gold", "held_out_reward"):
            continue  # the evaluations show it on held-out prompts
        title, caption = METRICS.get(metric, (metric.replace("_", " ").capitalize(), ""))
        if metric.startswith(_PART):
            title, caption = f"Reward: {metric.removeprefix(_PART)}", _OF_PART
        series = [one for arm, training in arms.items() for one in _series(evidence, arm, training, metric)]
        x_name = next(iter(arms.values())).unit.removesuffix("s")
        chart = line_chart(title, series, caption=caption.format(unit=unit), x_name=x_name, zero_y=metric in _FROM_ZERO)
        charts += [chart] if chart else []
    return charts


def _series(evidence: Evidence, arm: str, training: TrainingCurves, metric: str) -> list[Series]:
    """A line for the arm; where the same was measured on held-out data too, that has the colour and its own line."""
    place = "iteration" if training.unit == "iterations" else "step"
    shown = evidence.arm(arm)
    pairs = ([(row.get(place), row.get(name)) for row in training.rows] for name in (f"eval_{metric}", metric))
    held_out, points = (tuple((x, y) for x, y in column if x is not None and y is not None) for column in pairs)
    if not held_out:
        return [Series(name=shown.name, colour=shown.colour, points=points, smooth=True)]
    return [
        Series(name="held-out", colour=shown.colour, points=held_out),
        Series(name="training", colour="grey", points=points, smooth=True),
    ]
