"""What models write for held-out prompts, scored, and laid side by side for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from assent.algorithms.on_policy.reward_signal import RewardSum
from assent.environments.acting import as_shown, without_failed
from assent.evals.evidence import Measurement, Sample
from assent.evals.intervals import Interval, bootstrap_mean, paired_difference
from assent.evals.words import HELD_OUT
from assent.ports.sampling import Progress, SamplingParams, silent
from assent.recipes.run.held_out import RAW, spread
from assent.recipes.run.progress import Display
from assent.recipes.run.rewards import Judges
from assent.runs.logs import read_rows
from assent.seeds import derive
from assent.types import Completion, Conversation, Trajectory, Turn

_SHOWN_SAMPLES = 12


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
