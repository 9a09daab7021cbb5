"""What a policy writes for a few prompts, before, during and after training: a loss may look healthy while the model is
wrecked.

The answers of a policy that learns from examples are greedy, so that a difference is of the weights, not of the dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from assent.algorithms.on_policy.rollout import Rollout
from assent.environments.acting import Actor, as_shown
from assent.evals.evidence import Sample
from assent.evals.words import HELD_OUT
from assent.metrics import Metrics
from assent.ports.sampling import SamplingParams
from assent.recipes.run.held_out import AFTER, BEFORE
from assent.recipes.run.job_settings import OnPolicyJob
from assent.recipes.run.jobs import Job
from assent.recipes.run.models import LanguageModel
from assent.recipes.run.progress import Display
from assent.recipes.run.skipped_examples import fits
from assent.recipes.run.written_answers import answers_side_by_side
from assent.types import Comparison, Completion, Conversation

SHOWN, MAX_TOKENS = 4, 64


class ShownAnswers:
    """The answers to the first prompts that fit, of those held out or else of training; written now and later."""

    def __init__(
        self, model: LanguageModel, trained: Sequence[Comparison], held_out: Sequence[Comparison], display: Display
    ) -> None:
        self._model, self._display = model, display
        self._kind = HELD_OUT if held_out else "training prompt"
        different = dict.fromkeys(one.prompt for one in held_out or trained)
        self._prompts = list(islice((one for one in different if fits(one, model, max_tokens=MAX_TOKENS)), SHOWN))
        self._before = self._written("before")

    def samples(self) -> tuple[Sample, ...]:
        """The prompts with both answers."""
        answers = {BEFORE: self._before, AFTER: self._written("after")}
        return answers_side_by_side(self._prompts, answers, kind=self._kind)

    def _written(self, when: str) -> list[Completion]:
        if not self._prompts:
            return []
        with self._display.stage(f"write {when} training", len(self._prompts), unit="answers") as stage:
            greedy = SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0)
            turns = self._model.sampler.sample(self._prompts, sampling=greedy, seed=0, progress=stage.counter)
        return [turn.completion for turn in turns]


def shown_episodes(actor: Actor, prompts: Sequence[Conversation], *, seed: int) -> list[Completion]:
    """What the model says to a few prompts of training, unscored: a reward function is called for training alone."""
    return [as_shown(episode) for episode in actor.play(prompts, seed=seed)]


class RolloutLog:
    """Writes a few episodes of every n-th rollout to samples.jsonl, once the run is open."""

    def __init__(self, settings: OnPolicyJob) -> None:
        self._every, self._iterations = settings.samples_every, settings.iterations

    def open(self, job: Job) -> None:
        """Write into this job's run."""
        self._samples = job.run.samples

    def __call__(self, rollout: Rollout) -> Metrics:
        number = rollout.iteration + 1
        if rollout.iteration % self._every == 0 or number == self._iterations:
            for episode, reward in list(zip(rollout.episodes, rollout.rewards, strict=True))[:SHOWN]:
                row = {
                    "prompt": episode.start.last_user_text,
                    "completion": as_shown(episode).text,
                    "stop": str(episode.completion.stop),
                    "reward": reward,
                    "iteration": number,
                }
                self._samples.append(number, row)
        return {}
