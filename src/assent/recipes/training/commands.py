"""The training commands, one for each method: files in, a run folder with model, metrics, checkpoints and report out.

What a method reads decides how it is prepared and measured. Everything is read and checked first; the run folder is
made when nothing that the user gave can be wrong any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from assent.algorithms.methods import METHODS, Reads, load_named
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.on_policy.task import kept_scale
from assent.environments.acting import Actor, InEnvironment, without_failed
from assent.errors import ConfigError
from assent.evals.arms import judge_name
from assent.metrics import Metrics
from assent.recipes.run.environments import open_environment
from assent.recipes.run.held_out import (
    AFTER,
    BEFORE,
    RAW,
    HeldOutAnswers,
    answers_side_by_side,
    change,
    compared_samples,
    measure_policy,
    measure_reward,
    reward_measurements,
    rollout_samples,
    said_of_scores,
    sampled_from,
)
from assent.recipes.run.inputs import LOADS, Files, Read, model_folder, read_all, read_judgement, require_data
from assent.recipes.run.job_settings import (
    ExamplesJob,
    FineTuning,
    OnPolicyJob,
    PreferenceJob,
    RunSettings,
    job_settings,
)
from assent.recipes.run.jobs import Job, Training, check_output, open_job
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    adapter_base,
    head_alone,
    load_language_model,
    load_reward_for,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.rewards import Rewards, open_rewards
from assent.recipes.run.skipped_examples import fitting_prompts, say_prepared
from assent.recipes.training.prepare import (
    Prepared,
    ScaledReward,
    actor_of,
    measure_scale,
    prepare_offline,
    prepare_on_policy,
)
from assent.recipes.training.pretraining import WORLD, prepare_pretraining
from assent.recipes.training.shown_answers import SHOWN, RolloutLog, ShownAnswers, shown_episodes
from assent.runs.lineage import DataSource
from assent.seeds import derive
from assent.types import Conversation

_DURING = {BEFORE: "the model before training", AFTER: "the model after training"}


def run_method(request: Request, display: Display) -> Path:
    """`assent METHOD`: train, save, measure what is held out, and write the report; returns the report's path."""
    method, files = METHODS[request.name], request.files
    settings = request.settings(job_settings(request.name))
    if request.environment is None:
        require_data(
            files, otherwise=f", or write --data {WORLD} for the embedded world" if method.makes == "model" else ""
        )
    check_output(files, settings)
    training = _PREPARATIONS[method.reads](request, settings, display)
    say_prepared(display, training.prepared)
    with open_job(request, settings, display, training) as job:
        if training.examples:
            job.note_prompts(training.examples, training.held_out)
        training.begin(job)
        last = job.train(training.prepared.task)
        training.save(job.model_folder)
        shown = [name for curve in method.curves[:3] for name in (curve, f"eval_{curve}")]
        metrics = {name: last[name] for name in shown if name in last}
        return job.finish(metrics | training.measure(job))


def _from_examples(request: Request, settings: ExamplesJob, display: Display) -> Training:
    """A policy from demonstrations (or the chosen side of comparisons), or from judgement without a reward model."""
    method, seed = METHODS[request.name], settings.seed
    shown = method.reads == "demonstrations"
    data, held = _read(request, settings, display)
    model = _policy(request.files, settings, display)
    prepared = prepare_offline(
        load_named(method.algorithm), model, data.examples, settings, seed=seed, held_out=held.examples, display=display
    )
    answers = HeldOutAnswers(model, held.examples, settings, display) if shown and held.examples else None
    written = None if shown else ShownAnswers(model, data.examples, held.examples, display)

    def measure(job: Job) -> Metrics:
        if written is not None:
            job.evidence["samples"] = written.samples()
        if prepared.scored is not None:
            found = said_of_scores(prepared.scored(), display, seed=seed)
            job.evidence |= found.evidence | {"quality_of": "The reward implicit in the policy"}
            return found.metrics
        if answers is not None:
            loss = answers.measurement(held.sources, seed=seed)
            display.say(change(loss))
            job.evidence["measurements"] = (loss,)
            if not settings.evaluate_every:
                job.first_rows = ({"step": 0, "eval_loss": loss.values[BEFORE].mean},)
        return {}

    return _of_policy(model, prepared, data, held, measure)


def _from_preferences(request: Request, settings: PreferenceJob, display: Display) -> Training:
    """A reward model from comparisons and rankings, or from good/bad labels."""
    files, reading, limit = request.files, settings.reading, settings.limit
    ranked = settings.loss == "plackett_luce"
    data, load = read_judgement(files, display, learn=settings.learn, reading=reading, limit=limit, ranked=ranked)
    held = read_all(files.eval_data, load, files, display, role="eval", limit=limit, reading=reading)
    alone = settings.train == "head"
    reward = new_reward_model(
        model_folder(files.model), machine=settings.machine, seed=settings.seed, lora=None if alone else settings.lora,
        classes=settings.classes, names=reading.class_names,
    )  # fmt: skip
    reward = head_alone(reward) if alone else reward

    def measure(job: Job) -> Metrics:
        if not held.examples:
            return {}
        found = measure_reward(reward, held.examples, settings, display, seed=settings.seed)
        job.evidence |= found.evidence
        return found.metrics

    return Training(
        prepared=prepare_offline(
            load_named(METHODS[request.name].algorithm), reward, data.examples, settings, seed=settings.seed,
            held_out=held.examples, display=display,
        ),
        save=partial(save_reward_model, reward), measure=measure, examples=data.examples, held_out=held.examples,
        sources=(*data.sources, *held.sources), parents={"policy": reward.path},
    )  # fmt: skip


def _from_rewards(request: Request, settings: OnPolicyJob, display: Display) -> Training:
    """A policy from what it writes itself, scored by reward models, classifiers, functions or its environment."""
    opened = open_environment(request.environment)
    if not opened.environment.prompts:
        require_data(request.files)
    data, held = _read(request, settings, display, role="prompts")
    model = _policy(request.files, settings, display)
    prompts = fitting_prompts(data.examples or opened.environment.prompts, model, settings, display)
    unseen = fitting_prompts(held.examples, model, settings, display) if held.examples else []
    rewards = _rewards(request.rewards, model, settings, opened.source)
    actor = actor_of(model.sampler, settings, opened.environment)
    _check(rewards, actor, [*prompts, *unseen], seed=settings.seed)
    asked, log = InEnvironment(prompts=prompts, environment=opened.environment), RolloutLog(settings)
    scale = kept_scale(request.files.out / "checkpoints") if request.files.resume else None
    if scale is None:
        with display.stage("normalise", settings.normalise_prompts, unit="completions") as stage:
            scale = measure_scale(rewards.scorer, model, asked, settings, seed=settings.seed, progress=stage.counter)
    prepared = prepare_on_policy(
        load_named(METHODS[request.name].algorithm), model, asked, settings, seed=settings.seed,
        reward=ScaledReward(reward=rewards.scorer, scale=scale),
        observer=Observer(rollout=log, say=display.say, note=display.note, held_out=tuple(unseen)),
    )  # fmt: skip
    shown = partial(shown_episodes, actor, prompts[:SHOWN], seed=derive(settings.seed, "shown"))
    look = partial(measure_policy, actor=actor, prompts=unseen, reward=rewards.scorer, display=display)
    texts = {BEFORE: shown()}
    written = {BEFORE: look(_DURING[BEFORE], seed=settings.seed)} if unseen else {}

    def measure(job: Job) -> Metrics:
        judges, metrics = rewards.judges(job.lineage.parents), Metrics()
        texts[AFTER] = shown()
        samples = answers_side_by_side(prompts[:SHOWN], texts)
        if unseen:
            written[AFTER] = look(_DURING[AFTER], seed=settings.seed)
            samples = compared_samples(written)
            items = sampled_from(held.sources, settings.sampling, limit=settings.limit)
            measurements = reward_measurements(written, judges=judges, items=items, seed=settings.seed)
            display.say(change(measurements[0]))
            job.evidence["measurements"] = measurements
            metrics = {f"eval_reward_{name}": mean.mean for name, mean in measurements[0].values.items()}
        job.evidence |= {
            "reward_unit": f"{RAW} of {judge_name(judges.total)}", "notes": (prepared.task.scale.told(),),
            "samples": (*samples, *rollout_samples(job.run.path, arm=request.name)),
        }  # fmt: skip
        return metrics

    training = _of_policy(model, prepared, data, held, measure)
    return replace(
        training, begin=log.open, parents={**training.parents, **rewards.parents},
        sources=(*training.sources, *rewards.sources),
    )  # fmt: skip


_PREPARATIONS: dict[Reads, Callable[[Request, Any, Display], Training]] = {
    "texts": prepare_pretraining,
    "demonstrations": _from_examples,
    "preferences": _from_preferences,
    "comparisons": _from_examples,
    "rankings": _from_examples,
    "labels": _from_examples,
    "prompts": _from_rewards,
}


def _read(request: Request, settings: RunSettings, display: Display, *, role: str = "train") -> tuple[Read, Read]:
    """What is trained on and what is held out."""
    files, load = request.files, LOADS[METHODS[request.name].reads]
    read = partial(read_all, load=load, files=files, display=display, limit=settings.limit, reading=settings.reading)
    return read(files.data, role=role), read(files.eval_data, role="eval")


def _policy(files: Files, settings: FineTuning, display: Display) -> LanguageModel:
    model = load_language_model(model_folder(files.model), machine=settings.machine, lora=settings.lora)
    if model.template.used_default:
        display.say("the tokenizer has no chat template: plain Human/Assistant transcripts are used, and saved with it")
    if settings.lora.rank and adapter_base(model.path) is not None:
        display.say("the model is an adapter: it is trained further as it is, and lora settings are not used")
    return model


def _of_policy(
    model: LanguageModel, prepared: Prepared[Any], data: Read, held: Read, measure: Callable[[Job], Metrics]
) -> Training:
    return Training(
        prepared=prepared, save=partial(save_language_model, model), measure=measure, examples=data.examples,
        held_out=held.examples, sources=(*data.sources, *held.sources), parents={"policy": model.path},
    )  # fmt: skip


def _rewards(
    names: Sequence[str], model: LanguageModel, settings: OnPolicyJob, environment: DataSource | None
) -> Rewards:
    """The rewards of a run; the first adapter on the policy's own base shares that base."""
    if not names and environment is None:
        raise ConfigError("no reward was given", now="Name a reward model, a classifier or FILE.py:NAME with --reward.")

    def load(path: str, first: bool) -> RewardModel:
        machine, positive = settings.machine, settings.positive
        if not first:
            return load_reward_model(path, machine=machine, positive=positive)
        return load_reward_for(model, path, machine=machine, positive=positive)

    return open_rewards(names, settings.reward_weights, load, environment=environment)


def _check(rewards: Rewards, actor: Actor, prompts: Sequence[Conversation], *, seed: int) -> None:
    """Prompts have what functions ask for, and functions work on two answers: a mistake shows before long work."""
    rewards.check(prompts)
    if rewards.functions:
        short = replace(actor, sampling=replace(actor.sampling, max_tokens=min(8, actor.sampling.max_tokens or 8)))
        tried = without_failed(short.play(prompts[:2], seed=seed))
        rewards.scorer.score([one.prompt for one in tried], [one.completion for one in tried])
