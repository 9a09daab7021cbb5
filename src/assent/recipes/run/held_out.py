"""What is measured on held-out data: said in a line with its interval, and kept for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.on_policy.reward_signal import RewardSum
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import ConversationLoss, encode_demonstrations, supervised_losses
from assent.environments.acting import as_shown, without_failed
from assent.evals.arms import Arm
from assent.evals.axes import is_a_coin, no_interval
from assent.evals.evidence import Measurement, Sample
from assent.evals.intervals import Interval, bootstrap_mean, bootstrap_ratio, paired_difference
from assent.evals.reward_quality import (
    ClassifierQuality,
    RewardQuality,
    ScoredLabels,
    ScoredPairs,
    classifier_quality,
    reward_quality,
)
from assent.evals.words import HELD_OUT
from assent.metrics import Metrics
from assent.ports.learning import LearnerSettings, Roles
from assent.ports.sampling import Progress, SamplingParams, silent
from assent.recipes.run.annotators import scored_by_own_heads
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.run.progress import Display
from assent.recipes.run.rewards import Judges
from assent.recipes.run.skipped_examples import say_skipped
from assent.recipes.training.prepare import score_judged
from assent.runs.lineage import DataSource, named
from assent.runs.logs import read_rows
from assent.seeds import derive
from assent.types import Completion, Conversation, Demonstration, Trajectory, Turn

BEFORE, AFTER = "before", "after"
BEFORE_AND_AFTER = {BEFORE: Arm(name="Before", colour="grey"), AFTER: Arm(name="After", colour="blue")}
RAW = "raw score"  # rewards as their model or function gives them, before training normalises them
_SHOWN_SAMPLES = 12


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a model wrote for prompts, the reward of each completion, and the mean with its interval over prompts.

    Where several rewards are added up, `parts` has the raw scores of each by its name.
    """

    prompts: tuple[Conversation, ...]
    completions: tuple[Completion, ...]
    scores: tuple[float, ...]
    mean: Interval
    parts: Mapping[str, Sequence[float]]


class Writer(Protocol):
    """A sampler, or best-of-n: what answers prompts."""

    def sample(
        self, prompts: Sequence[Conversation], *, sampling: SamplingParams, seed: int, progress: Progress = silent
    ) -> list[Turn]:
        """One turn per prompt."""


class Player(Protocol):
    """An `Actor`, or a writer of single answers: what plays an episode of each prompt."""

    def play(self, prompts: Sequence[Conversation], *, seed: int, progress: Progress = silent) -> list[Trajectory]:
        """One episode per prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """The answers of a writer as episodes of one turn."""

    writer: Writer
    sampling: SamplingParams

    def play(self, prompts: Sequence[Conversation], *, seed: int, progress: Progress = silent) -> list[Trajectory]:
        """As `Player`."""
        turns = self.writer.sample(prompts, sampling=self.sampling, seed=seed, progress=progress)
        return [
            Trajectory(prompt=prompt, turns=(turn,), completion=turn.completion)
            for prompt, turn in zip(prompts, turns, strict=True)
        ]


def measure_policy(
    name: str, player: Player, prompts: Sequence[Conversation], reward: RewardSum, display: Display, *, seed: int
) -> Written:
    """Let a model play one episode of each prompt and score it: raw scores, before training normalises them.

    A prompt that stands twice counts once in n. An episode that failed counts as 0.
    """
    with display.stage(f"sample {name}", len(prompts), unit="texts") as stage:
        episodes = player.play(prompts, seed=derive(seed, "eval"), progress=stage.counter)
    completions, kept = [as_shown(one) for one in episodes], without_failed(episodes)
    scores = reward.scores([one.prompt for one in kept], [one.completion for one in kept])
    if failed := [one for one in episodes if one.failed]:
        display.say(f"{len(failed)} episodes of {name} failed and count as 0; the first: {failed[0].problem}")
        for scored in scores:
            found = iter(scores[scored])
            scores[scored] = [0.0 if one.failed else next(found) for one in episodes]
    total = reward.total(scores)
    mean = bootstrap_mean(total, seed=seed, groups=prompts)
    display.say(f"reward of {name}: {mean.mean:.3f} ({spread(mean, 'prompts')})")
    parts = scores if len(scores) > 1 else {}
    for one, values in parts.items():
        part = bootstrap_mean(values, seed=seed, groups=prompts)
        display.say(f"  {one}: {part.mean:.3f} ({spread(part, 'prompts')})")
    return Written(
        prompts=tuple(prompts), completions=tuple(completions), scores=tuple(total), mean=mean, parts=parts
    )  # fmt: skip


def reward_measurements(
    written: Mapping[str, Written], *, judges: Judges, items: str, seed: int
) -> tuple[Measurement, ...]:
    """The mean rewards of one or two models on the same prompts, and of several rewards the mean of each."""
    first = next(iter(written.values()))
    scores = {("reward", judges.total): {name: one.scores for name, one in written.items()}}
    for part in first.parts:
        told = part if part == judges.cost else f"reward {part}"
        scores[told, judges.each[part]] = {name: tuple(one.parts[part]) for name, one in written.items()}
    return tuple(
        _reward_measurement(name, found, first.prompts, judge, items, seed, name == judges.cost)
        for (name, judge), found in scores.items()
    )


def _reward_measurement(
    name: str, scores: Mapping[str, Sequence[float]], prompts: Sequence[Conversation], judge: str, items: str,
    seed: int, lower: bool,
) -> Measurement:  # fmt: skip
    """What the last model has over the first is taken prompt by prompt."""
    first, *_, last = (*scores.values(), *scores.values())
    gained = None
    if len(scores) > 1:
        gained = paired_difference(last, first, seed=derive(seed, "gained"), groups=prompts)
    values = {model: bootstrap_mean(one, seed=seed, groups=prompts) for model, one in scores.items()}
    return Measurement(
        name=name, unit=RAW, judge=judge, items=items, counted="prompts", values=values, gained=gained,
        lower_is_better=lower,
    )  # fmt: skip


def compared_samples(written: Mapping[str, Written]) -> tuple[Sample, ...]:
    """The first held-out prompts with the answers of every model and their rewards."""
    prompts = next(iter(written.values())).prompts
    answers = {name: one.completions for name, one in written.items()}
    scores = {name: one.scores for name, one in written.items()}
    return _samples(prompts[:_SHOWN_SAMPLES], answers, scores, kind=HELD_OUT)


def answers_side_by_side(
    prompts: Sequence[Conversation], answers: Mapping[str, Sequence[Completion]], *, kind: str = "training prompt"
) -> tuple[Sample, ...]:
    """Prompts with the answers of every model; nothing is scored."""
    return _samples(prompts, answers, {}, kind=kind)


def _samples(
    prompts: Sequence[Conversation],
    answers: Mapping[str, Sequence[Completion]],
    scores: Mapping[str, Sequence[float]],
    *,
    kind: str,
) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            prompt=prompt.last_user_text,
            kind=kind,
            answers={name: completions[place].text for name, completions in answers.items()},
            reward={name: values[place] for name, values in scores.items()},
        )
        for place, prompt in enumerate(prompts)
    )


def rollout_samples(run: Path, *, arm: str) -> tuple[Sample, ...]:
    """What the policy wrote in the first and in the last logged iteration of an on-policy run."""
    rows = read_rows(run / "samples.jsonl")
    shown = {rows[0]["iteration"], rows[-1]["iteration"]} if rows else set()
    return tuple(
        Sample(
            prompt=row["prompt"], kind=f"rollout of iteration {row['iteration']}", answers={arm: row["completion"]},
            reward={arm: row["reward"]},
        )
        for row in rows
        if row["iteration"] in shown
    )  # fmt: skip


def write_answers(
    name: str, writer: Writer, prompts: Sequence[Conversation], sampling: SamplingParams, display: Display,
    *, seed: int,
) -> list[Completion]:  # fmt: skip
    """One completion per prompt, with progress."""
    with display.stage(f"sample {name}", len(prompts), unit="texts") as stage:
        turns = writer.sample(prompts, sampling=sampling, seed=derive(seed, "eval"), progress=stage.counter)
    return [turn.completion for turn in turns]


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
