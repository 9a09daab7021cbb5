"""Learning from rewards as a command does it: prompts, rewards and their scale, the watch, and what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.on_policy.task import kept_scale
from assent.data.load import load_demonstrations
from assent.environments.acting import Actor, InEnvironment, without_failed
from assent.errors import ConfigError
from assent.evals.arms import judge_name
from assent.metrics import Metrics
from assent.recipes.run.annotators import for_annotator
from assent.recipes.run.environments import open_environment
from assent.recipes.run.held_out import AFTER, BEFORE, RAW, change, sampled_from
from assent.recipes.run.inputs import Read, read_all, require_data
from assent.recipes.run.job_settings import (
    OnPolicyJob,
)
from assent.recipes.run.jobs import Job, Training
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    load_reward_for,
    load_reward_model,
    save_language_model,
)
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.rewards import Rewards, open_rewards
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.recipes.run.written_answers import (
    answers_side_by_side,
    compared_samples,
    measure_policy,
    reward_measurements,
    rollout_samples,
)
from assent.recipes.training.parts import open_policy, read_data, training_of
from assent.recipes.training.prepare_on_policy import PTXPrompts, actor_of, prepare_on_policy, scaled_reward
from assent.recipes.training.reward_watching import RewardWatching
from assent.recipes.training.shown_answers import SHOWN, RolloutLog, shown_episodes
from assent.runs.lineage import DataSource
from assent.seeds import derive
from assent.types import Completion, Conversation

_DURING = {BEFORE: "the model before training", AFTER: "the model after training"}


def from_rewards(request: Request, settings: OnPolicyJob, display: Display) -> Training:
    """A policy from what it writes itself, scored by reward models, classifiers, judges or functions `FILE.py:NAME`."""
    opened = open_environment(request.environment)
    if not opened.environment.prompts:
        require_data(request.files)
    data, held = read_data(request, settings, display, role="prompts")
    model = open_policy(request.files, settings, display)
    prompts = fitting_prompts(data.examples or opened.environment.prompts, model, settings, display)
    unseen = fitting_prompts(held.examples, model, settings, display) if held.examples else []
    rewards, ptx = _rewards(request, model, settings, opened.source, display), _ptx_data(request, settings, display)
    rewards.check([*prompts, *unseen])
    actor = actor_of(model.sampler, settings, opened.environment)
    if rewards.functions:
        _try(rewards, actor, prompts[:2], seed=settings.seed)
    watching = _watching(request, settings, display, model, unseen)
    log = RolloutLog(settings)
    kept = kept_scale(request.files.out / "checkpoints") if request.files.resume else None
    asked = InEnvironment(prompts=prompts, environment=opened.environment)
    reward = scaled_reward(rewards.scorer, model, asked, settings, seed=settings.seed, kept=kept, display=display)
    prepared = prepare_on_policy(
        load_named(METHODS[request.name].algorithm), model, PTXPrompts(prompts=asked, ptx=ptx.examples), settings,
        seed=settings.seed, reward=reward,
        observer=Observer(
            rollout=log, evaluated=watching, say=display.say, note=display.note, held_out=tuple(unseen)
        ),
    )  # fmt: skip
    around = _BeforeAndAfter(watching, actor, prompts, rewards, display)
    measure = partial(around.measured, sources=held.sources, told=prepared.task.scale.told())
    training = training_of(model, prepared, data, held, measure)
    return replace(
        training, begin=log.open, save=around.save,
        parents={**training.parents, **rewards.parents, **watching.parents},
        sources=(*training.sources, *rewards.sources, *watching.sources, *ptx.sources),
    )  # fmt: skip


class _BeforeAndAfter:
    """What the model writes before training and after it, and the weights that are kept."""

    def __init__(
        self, watching: RewardWatching, actor: Actor, prompts: Sequence[Conversation], rewards: Rewards,
        display: Display,
    ) -> None:  # fmt: skip
        self._watching, self._actor, self._rewards, self._display = watching, actor, rewards, display
        self._model, self._unseen, self._settings = watching.model, watching.prompts, watching.settings
        self._prompts = prompts[:SHOWN]
        self._texts, self._written = dict[str, list[Completion]](), dict[str, Any]()
        self._kept = ""
        self._look(BEFORE)

    def save(self, folder: Path) -> None:
        """Save the weights that are kept."""
        self._kept = self._watching.keep()
        if self._kept:
            self._display.say(self._kept)
        save_language_model(self._model, folder)

    def measured(self, job: Job, *, sources: Sequence[DataSource], told: str) -> Metrics:
        """Put both into the job's evidence, and what the watch saw; gives the rewards on held-out prompts."""
        settings, judges = self._settings, self._rewards.judges(job.lineage.parents)
        self._look(AFTER)
        metrics, samples = Metrics(), answers_side_by_side(self._prompts, self._texts)
        if self._unseen:
            samples = compared_samples(self._written)
            items = sampled_from(sources, settings.sampling, limit=settings.limit)
            found = reward_measurements(self._written, judges=judges, items=items, seed=settings.seed)
            self._display.say(change(found[0]))
            job.evidence["measurements"] = found
            metrics = {f"eval_reward_{name}": mean.mean for name, mean in found[0].values.items()}
        watched = self._watching.evidence(job)
        job.evidence |= {
            "reward_unit": f"{RAW} of {judge_name(judges.total)}",
            "samples": (*samples, *rollout_samples(job.run.path, arm=job.request.name)),
            **watched, "notes": tuple(filter(None, (told, self._kept, *watched["notes"]))),
        }  # fmt: skip
        return metrics

    def _look(self, when: str) -> None:
        """Write for a few prompts of training, unscored (a function is called for training alone), and the held out."""
        seed = self._settings.seed
        self._texts[when] = shown_episodes(self._actor, self._prompts, seed=derive(seed, "shown"))
        if self._unseen:
            self._written[when] = measure_policy(
                _DURING[when], self._actor, self._unseen, self._rewards.scorer, self._display, seed=seed
            )


def _watching(
    request: Request, settings: OnPolicyJob, display: Display, model: LanguageModel, unseen: Sequence[Conversation]
) -> RewardWatching:
    """The watch over the held-out prompts, with the held-out reward that --watch names."""
    names = tuple(request.own.get("watch") or ())
    if (names or settings.keep == "best") and not settings.evaluate_every:
        now = "Add --set evaluate_every=5 and held-out prompts (--eval-data)."
        raise ConfigError("nothing is measured on the way", where="evaluate_every", now=now)

    def load(path: str, first: bool) -> RewardModel:
        return load_reward_model(path, machine=settings.machine, positive=settings.positive)

    held_out = open_rewards(names, settings.model_copy(update={"reward_weights": ()}), load) if names else None
    return RewardWatching(
        model=model, prompts=unseen, held_out=held_out, settings=settings, out=request.files.out, say=display.say
    )


def _ptx_data(request: Request, settings: OnPolicyJob, display: Display) -> Read:
    """Demonstrations to be imitated beside the reward."""
    files, paths, reading = request.files, request.own.get("ptx_data", ()), settings.reading
    return read_all(paths, load_demonstrations, files, display, role="ptx", limit=settings.limit, reading=reading)


def _rewards(
    request: Request, model: LanguageModel, settings: OnPolicyJob, environment: DataSource | None, display: Display
) -> Rewards:
    """The rewards of a run and its cost; the first adapter on the policy's own base shares that base."""
    if not request.rewards and environment is None:
        raise ConfigError("no reward was given", now="Name a reward model, a classifier or FILE.py:NAME with --reward.")

    def load(path: str, first: bool) -> RewardModel:
        machine, positive = settings.machine, settings.positive
        reward = (
            load_reward_for(model, path, machine=machine, positive=positive)
            if first
            else load_reward_model(path, machine=machine, positive=positive)
        )
        return for_annotator(reward, settings.annotator, display)

    return open_rewards(request.rewards, settings, load, cost=request.text("cost"), environment=environment)


def _try(rewards: Rewards, actor: Actor, prompts: Sequence[Conversation], *, seed: int) -> None:
    """A mistake in a function shows before long work."""
    short = replace(actor, sampling=replace(actor.sampling, max_tokens=min(8, actor.sampling.max_tokens or 8)))
    tried = without_failed(short.play(prompts, seed=seed))
    rewards.scorer.score([one.prompt for one in tried], [one.completion for one in tried])
