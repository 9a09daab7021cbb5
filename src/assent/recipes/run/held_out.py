"""What is measured on held-out data: said in a line with its interval, and kept for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import ConversationLoss, encode_demonstrations, supervised_losses
from assent.evals.arms import Arm
from assent.evals.axes import is_a_coin, no_interval
from assent.evals.evidence import Measurement
from assent.evals.intervals import Interval, bootstrap_ratio
from assent.evals.reward_quality import (
    ClassifierQuality,
    RewardQuality,
    ScoredLabels,
    ScoredPairs,
    classifier_quality,
    reward_quality,
)
from assent.metrics import Metrics
from assent.ports.learning import LearnerSettings, Roles
from assent.ports.sampling import SamplingParams
from assent.recipes.run.annotators import scored_by_own_heads
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.run.progress import Display
from assent.recipes.run.skipped_examples import say_skipped
from assent.recipes.training.prepare import score_judged
from assent.runs.lineage import DataSource, named
from assent.seeds import derive
from assent.types import Demonstration

BEFORE, AFTER = "before", "after"
BEFORE_AND_AFTER = {BEFORE: Arm(name="Before", colour="grey"), AFTER: Arm(name="After", colour="blue")}
RAW = "raw score"  # rewards as their model or function gives them, before training normalises them


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
    say_skipped(display, scored.skipped, what="held-out judgements")
    if scored.judgements[0].label is None:
        found = _said_of_pairs(reward_quality(scored.pairs, seed=seed), display)
        own = scored_by_own_heads(reward, scored, display)
        return found if own is None else _with_own_heads(found, reward_quality(own, seed=seed), display)
    labels = [one.label or 0.0 for one in scored.judgements]
    return _said_of_labels(classifier_quality([values[0] for values in scored.rewards], labels), display)


def said_of_scores(scored: ScoredPairs | ScoredLabels, display: Display, *, seed: int) -> Measured:
    """The reward that is implicit in a policy: on pairs, or on labels."""
    if isinstance(scored, ScoredPairs):
        return _said_of_pairs(reward_quality(scored, seed=seed), display)
    return _said_of_labels(classifier_quality(scored.rewards, scored.labels), display)


def _said_of_labels(quality: ClassifierQuality, display: Display) -> Measured:
    auc, metrics = quality.auc, {"eval_auc": quality.auc.mean, "eval_accuracy": quality.accuracy}
    display.say(f"held out: AUC {auc.mean:.3f} ({spread(auc, 'labels')}), accuracy {quality.accuracy:.3f}")
    return Measured(evidence={"classifier": quality}, metrics=metrics)


def _said_of_pairs(quality: RewardQuality, display: Display) -> Measured:
    """A reward model (or the reward implicit in a policy) on pairs."""
    coin = ": no better than a coin" if is_a_coin(quality.accuracy_interval) else ""
    display.say(
        f"held out: {quality.accuracy:.3f} of {quality.pairs} pairs right{coin} "
        f"({spread(quality.accuracy_interval, 'label groups')}), calibration error {quality.ece:.3f}"
    )
    metrics = {"eval_accuracy": quality.accuracy, "eval_ece": quality.ece}
    return Measured(evidence={"reward_model": quality}, metrics=metrics)


def _with_own_heads(found: Measured, own: RewardQuality, display: Display) -> Measured:
    """The figures of the population's head, with those of every known annotator's own."""
    told = f"{own.accuracy:.3f} of {own.pairs} pairs right ({spread(own.accuracy_interval, 'label groups')})"
    display.say(f"  each known annotator by their own head: {told}, calibration error {own.ece:.3f}")
    return Measured(
        evidence={**found.evidence, "notes": (f"Each known annotator by their own head: {told}.",)},
        metrics=found.metrics | {"eval_personal_accuracy": own.accuracy, "eval_personal_ece": own.ece},
    )


class HeldOutAnswers:
    """Held-out conversations: how likely a model finds what the assistant said in them, now and later."""

    def __init__(
        self, model: LanguageModel, held_out: Sequence[Demonstration], settings: TrainSettings, display: Display
    ) -> None:
        room = min(settings.max_length, model.role.body.max_length or settings.max_length)
        sized = encode_demonstrations(held_out, model.template, max_length=room)
        say_skipped(display, sized.skipped, what="held-out conversations")
        self._encoded, self._model, self._settings = sized.items, model, settings
        self.before = self._losses()

    def measurement(self, sources: Sequence[DataSource], *, seed: int) -> Measurement:
        """The loss in nats per token before and after, each conversation against itself."""
        after = self._losses()
        gained = [now.negative_logp - then.negative_logp for now, then in zip(after, self.before, strict=True)]
        tokens = [one.tokens for one in after]
        return loss_measurement(
            {BEFORE: _mean_loss(self.before, seed), AFTER: _mean_loss(after, seed)}, sources,
            gained=bootstrap_ratio(gained, tokens, seed=derive(seed, "loss")),
        )  # fmt: skip

    def now(self, name: str, sources: Sequence[DataSource], *, seed: int) -> Measurement:
        """The loss of a model that is only looked at."""
        return loss_measurement({name: _mean_loss(self.before, seed)}, sources)

    def _losses(self) -> list[ConversationLoss]:
        settings = LearnerSettings(micro_batch_tokens=self._settings.micro_batch_tokens)
        learner = self._model.backend.learner(Roles(policy=self._model.role), settings)
        return supervised_losses(learner, self._encoded)


def _mean_loss(losses: Sequence[ConversationLoss], seed: int) -> Interval:
    sums, tokens = [one.negative_logp for one in losses], [one.tokens for one in losses]
    return bootstrap_ratio(sums, tokens, seed=derive(seed, "loss"))


def loss_measurement(
    values: Mapping[str, Interval], sources: Sequence[DataSource], *, gained: Interval | None = None
) -> Measurement:
    """A loss on held-out conversations."""
    return Measurement(
        name="loss", unit="nats per token", items=", ".join(map(named, sources)), counted="conversations",
        values=values, gained=gained, lower_is_better=True,
    )  # fmt: skip


def sampled_from(sources: Sequence[DataSource], sampling: SamplingParams, *, limit: int | None) -> str:
    """On what and how answers were sampled: what must be equal for two mean rewards to be compared."""
    first = f", first {limit} rows of each" if limit else ""
    cut = f", top_p {sampling.top_p:g}" if sampling.top_p < 1 else ""
    cut += f", top_k {sampling.top_k}" if sampling.top_k else ""
    at = f"temperature {sampling.temperature:g}{cut}, at most {sampling.max_tokens} tokens"
    return f"{', '.join(map(named, sources))}{first}, {at}"


def spread(interval: Interval, counted: str, form: str = ".3f") -> str:
    """The interval of a line on the terminal: "0.567 to 0.628, n = 540 prompts"."""
    between = f"{interval.low:{form}} to {interval.high:{form}}"
    return f"{between if interval.low < interval.high else no_interval(interval)}, n = {interval.n} {counted}"


def change(found: Measurement) -> str:
    """Before, after and the change of a measurement, in one line."""
    before, after = found.values.values()
    told = f"held-out {found.name}: {before.mean:.3f} before, {after.mean:.3f} after, {found.unit}"
    gained = found.gained
    return f"{told}; change {gained.mean:+.3f} ({spread(gained, found.counted, '+.3f')})" if gained else told
