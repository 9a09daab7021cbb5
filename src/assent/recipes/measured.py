"""How good a reward model is on held-out judgement: measured, said in a line, and kept for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assent.algorithms.reward import RewardSettings
from assent.algorithms.reward_signal import RewardSum
from assent.evals.intervals import Interval, bootstrap_mean
from assent.evals.reward_quality import ClassifierQuality, RewardQuality, classifier_quality, reward_quality
from assent.metrics import Metrics
from assent.ports.sampling import Sampling
from assent.recipes.left_out import say_left_out
from assent.recipes.models import LanguageModel, RewardModel
from assent.recipes.progress import Display
from assent.recipes.training import score_judged
from assent.seeds import derive
from assent.types import Completion, Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Parts of the evidence, and the few numbers for the model card."""

    evidence: dict[str, Any]
    metrics: Metrics


def measure_reward(
    reward: RewardModel, judged: Sequence[Any], settings: RewardSettings, display: Display, *, seed: int
) -> Measured:
    """Accuracy and calibration on pairs; AUC on labels."""
    scored = score_judged(reward, judged, settings)
    say_left_out(display, scored.left_out, what="held-out judgements")
    if scored.judgements[0].label is None:
        return said_of_pairs(reward_quality(scored.pairs, seed=seed), display)
    rewards = [values[0] for values in scored.rewards]
    return _said_of_classifier(classifier_quality(rewards, [one.label or 0.0 for one in scored.judgements]), display)


def said_of_pairs(quality: RewardQuality, display: Display) -> Measured:
    """A reward model (or the reward implicit in a policy) on pairs."""
    display.say(
        f"held out: {quality.accuracy:.3f} of {quality.pairs} pairs right ({_span(quality.accuracy_interval)}), "
        f"calibration error {quality.ece:.3f}"
    )
    return Measured(
        evidence={"reward_model": quality}, metrics={"eval_accuracy": quality.accuracy, "eval_ece": quality.ece}
    )


def _said_of_classifier(quality: ClassifierQuality, display: Display) -> Measured:
    display.say(
        f"held out: AUC {quality.auc.mean:.3f} ({_span(quality.auc)}), accuracy {quality.accuracy:.3f}, "
        f"{quality.count} labels"
    )
    return Measured(
        evidence={"classifier": quality}, metrics={"eval_auc": quality.auc.mean, "eval_accuracy": quality.accuracy}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a model wrote for prompts, its rewards, their mean with its interval, and the means of several rewards."""

    completions: tuple[Completion, ...]
    scores: tuple[float, ...]
    mean: Interval
    parts: Mapping[str, Interval]


def measure_policy(
    name: str,
    model: LanguageModel,
    prompts: Sequence[Conversation],
    reward: RewardSum,
    sampling: Sampling,
    display: Display,
    *,
    seed: int,
) -> Written:
    """Let a model answer the prompts once and score the answers: raw scores, whatever PPO makes of them."""
    completions = write_answers(name, model, prompts, sampling, display, seed=seed)
    scores = reward.scores(prompts, completions)
    total = reward.total(scores)
    mean = bootstrap_mean(total, seed=seed)
    display.say(f"reward of {name}: {mean.mean:.3f} ({_span(mean)})")
    parts = {one: bootstrap_mean(values, seed=seed) for one, values in scores.items()} if len(scores) > 1 else {}
    for one, part in parts.items():
        display.say(f"  {one}: {part.mean:.3f} ({_span(part)})")
    return Written(completions=tuple(completions), scores=tuple(total), mean=mean, parts=parts)


def reward_evidence(written: Mapping[str, Written]) -> dict[str, Any]:
    """Parts of the evidence: the mean reward by model and, of several rewards, the mean of each by model."""
    names = dict.fromkeys(name for one in written.values() for name in one.parts)
    return {
        "reward": {model: one.mean for model, one in written.items()},
        "reward_parts": {name: {model: one.parts[name] for model, one in written.items()} for name in names},
    }


def write_answers(
    name: str, model: LanguageModel, prompts: Sequence[Conversation], sampling: Sampling, display: Display, *, seed: int
) -> list[Completion]:
    """One completion per prompt, with progress."""
    with display.stage(f"sample {name}", len(prompts), unit="texts") as stage:
        turns = model.sampler.sample(prompts, sampling=sampling, seed=derive(seed, "eval"), progress=stage.counter)
    return [turn.completion for turn in turns]


def _span(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"
