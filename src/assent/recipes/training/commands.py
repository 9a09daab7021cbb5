"""The training commands: files in, a run folder with model, metrics, checkpoints and report out.

Each reads and checks everything first; the run folder is made when nothing that the user gave can be wrong any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from assent.algorithms.on_policy.rollout import Observer, Rollout
from assent.algorithms.ppo import PPO
from assent.data.load import load_comparisons, load_demonstrations, load_prompts
from assent.errors import ConfigError
from assent.evals.arms import judge_name
from assent.evals.reward_quality import reward_quality
from assent.metrics import Metrics
from assent.ports.sampling import Scorer
from assent.recipes.run.held_out import (
    AFTER,
    BEFORE,
    RAW,
    HeldOutAnswers,
    change,
    compared_samples,
    measure_policy,
    measure_reward,
    reward_measurements,
    rollout_samples,
    said_of_pairs,
    sampled_from,
    training_samples,
)
from assent.recipes.run.inputs import Files, model_folder, read_all, read_judgement, require_data
from assent.recipes.run.job_settings import DPOJob, PPOJob, RewardJob, RunSettings, SFTJob
from assent.recipes.run.jobs import Job, check_output, open_job
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    adapter_base,
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
    HeldOutPairs,
    prepare_dpo,
    prepare_on_policy,
    prepare_reward,
    prepare_sft,
)
from assent.runs.lineage import DataSource
from assent.seeds import derive
from assent.types import Completion, Conversation

_SHOWN_COMPLETIONS = 4
_DURING = {BEFORE: "the model before training", AFTER: "the model after training"}


def run_sft(request: Request, display: Display) -> Path:
    """`assent sft`: imitate demonstrations (or the chosen side of comparisons)."""
    files, settings = request.files, request.settings(SFTJob)
    require_data(files)
    check_output(files, settings)
    reading, limit = settings.reading, settings.limit
    data = read_all(files.data, load_demonstrations, files, display, role="train", limit=limit, reading=reading)
    held = read_all(files.eval_data, load_demonstrations, files, display, role="eval", limit=limit, reading=reading)
    model = _policy(files, settings, display)
    prepared = prepare_sft(model, data.examples, settings, seed=settings.seed, held_out=held.examples)
    say_prepared(display, prepared)
    unseen = HeldOutAnswers(model, held.examples, settings, display) if held.examples else None
    with _job("sft", files, settings, display, (*data.sources, *held.sources), {"policy": model.path}) as job:
        job.note_prompts(data.examples, held.examples)
        last = job.train("fine-tune (SFT)", prepared.task)
        save_language_model(model, job.model_folder)
        if unseen is not None:
            measurements = unseen.measurement(held.sources, seed=settings.seed)
            display.say(change(measurements))
            job.evidence["measurements"] = (measurements,)
            job.first_rows = ({"step": 0, "eval_loss": measurements.values[BEFORE].mean},)
        return job.finish(_chosen(last, "loss", "eval_loss"), title="Supervised fine-tuning")


def run_reward(request: Request, display: Display) -> Path:
    """`assent reward`: learn a reward from comparisons and rankings, or from good/bad labels."""
    files, settings = request.files, request.settings(RewardJob)
    require_data(files)
    check_output(files, settings)
    ranked = settings.loss == "plackett_luce"
    reading, limit = settings.reading, settings.limit
    data, load = read_judgement(files, display, learn=settings.learn, reading=reading, limit=limit, ranked=ranked)
    held = read_all(files.eval_data, load, files, display, role="eval", limit=limit, reading=reading)
    reward = new_reward_model(
        model_folder(files.model), machine=settings.machine, seed=settings.seed, lora=settings.lora,
        classes=settings.classes, names=settings.reading.class_names,
    )  # fmt: skip
    if reward.goes_on:
        how = "fitted anew" if settings.train == "head" else "trained on"
        display.say(f"{reward.path} is a reward model: its head is {how}")
    prepared = prepare_reward(reward, data.examples, settings, seed=settings.seed, held_out=held.examples)
    say_prepared(display, prepared)
    with _job("reward", files, settings, display, (*data.sources, *held.sources), {"policy": reward.path}) as job:
        job.note_prompts(data.examples, held.examples)
        metrics = _chosen(job.train("reward model", prepared.task), "loss", "accuracy")
        save_reward_model(reward, job.model_folder)
        if held.examples:
            measurements = measure_reward(reward, held.examples, settings, display, seed=settings.seed)
            job.evidence |= measurements.evidence
            metrics |= measurements.metrics
        return job.finish(metrics, title="Reward model")


def run_dpo(request: Request, display: Display) -> Path:
    """`assent dpo`: learn from comparisons without a reward model."""
    files, settings = request.files, request.settings(DPOJob)
    require_data(files)
    check_output(files, settings)
    reading, limit = settings.reading, settings.limit
    data = read_all(files.data, load_comparisons, files, display, role="train", limit=limit, reading=reading)
    held = read_all(files.eval_data, load_comparisons, files, display, role="eval", limit=limit, reading=reading)
    model = _policy(files, settings, display)
    unseen = HeldOutPairs(model, held.examples, settings) if held.examples else None
    with display.stage("reference", len(data.examples), unit="pairs") as stage:
        prepared = prepare_dpo(
            model, data.examples, settings, seed=settings.seed, progress=stage.counter, held_out=unseen
        )
    say_prepared(display, prepared)
    with _job("dpo", files, settings, display, (*data.sources, *held.sources), {"policy": model.path}) as job:
        job.note_prompts(data.examples, held.examples)
        metrics = _chosen(job.train("DPO", prepared.task), "loss", "accuracy", "margin")
        save_language_model(model, job.model_folder)
        if unseen is not None:
            measurements = said_of_pairs(reward_quality(unseen.scored(), seed=settings.seed), display)
            job.evidence |= measurements.evidence
            metrics |= measurements.metrics
        return job.finish(metrics, title="Direct preference optimisation")


def run_ppo(request: Request, display: Display) -> Path:
    """`assent ppo`: train against a reward model, a classifier, or a Python function `FILE.py:NAME`."""
    files, settings = request.files, request.settings(PPOJob)
    require_data(files)
    check_output(files, settings)
    data = read_all(
        files.data, load_prompts, files, display, role="prompts", limit=settings.limit, reading=settings.reading
    )
    held = read_all(
        files.eval_data, load_prompts, files, display, role="eval", limit=settings.limit, reading=settings.reading
    )
    model = _policy(files, settings, display)
    prompts = fitting_prompts(data.examples, model, settings.max_tokens, display)
    unseen = fitting_prompts(held.examples, model, settings.max_tokens, display) if held.examples else []
    rewards = _rewards(request.texts("reward"), model, settings)
    rewards.check([*prompts, *unseen])
    if rewards.functions:
        _try(rewards.scorer, model, prompts[:2], settings)
    task_log = _SampleLog(settings)
    prepared = prepare_on_policy(
        PPO, model, prompts, settings, seed=settings.seed, reward=rewards.scorer,
        observer=Observer(rollout=task_log, say=display.say),
    )  # fmt: skip
    shown = partial(_texts, prompts[:_SHOWN_COMPLETIONS], settings)
    measure = partial(measure_policy, reward=rewards.scorer, sampling=settings.sampling, display=display)
    written, texts = {}, {BEFORE: shown(model)}
    if unseen:
        written[BEFORE] = measure(_DURING[BEFORE], model, unseen, seed=settings.seed)
    sources = (*data.sources, *held.sources, *rewards.sources)
    with _job("ppo", files, settings, display, sources, {"policy": model.path, **rewards.parents}) as job:
        task_log.job = job
        job.note_prompts(data.examples, held.examples)
        judges = rewards.judges(job.lineage.parents)
        job.evidence["reward_unit"] = f"{RAW} of {judge_name(judges.total)}"
        metrics = _chosen(job.train("PPO", prepared.task), "reward", "kl", "entropy")
        save_language_model(model, job.model_folder)
        texts[AFTER] = shown(model)
        samples = training_samples(prompts[:_SHOWN_COMPLETIONS], texts)
        if unseen:
            written[AFTER] = measure(_DURING[AFTER], model, unseen, seed=settings.seed)
            samples = compared_samples(written)
            items = sampled_from(held.sources, settings.sampling, limit=settings.limit)
            measurements = reward_measurements(written, judges=judges, items=items, seed=settings.seed)
            display.say(change(measurements[0]))
            job.evidence["measurements"] = measurements
            metrics |= {f"eval_reward_{name}": mean.mean for name, mean in measurements[0].values.items()}
        job.evidence["samples"] = (*samples, *rollout_samples(job.run.path))
        job.evidence["notes"] = (prepared.task.scale.told(),)
        return job.finish(metrics, title="PPO against a reward", rewards=request.texts("reward"))


def _rewards(names: Sequence[str], model: LanguageModel, settings: PPOJob) -> Rewards:
    """The rewards of a PPO run; the first adapter on the policy's own base shares that base."""
    if not names:
        raise ConfigError("no reward was given", now="Name a reward model, a classifier or FILE.py:NAME with --reward.")

    def load(path: str, first: bool) -> RewardModel:
        machine, positive = settings.machine, settings.positive
        if not first:
            return load_reward_model(path, machine=machine, positive=positive)
        return load_reward_for(model, path, machine=machine, positive=positive)

    return open_rewards(names, settings.reward_weights, load)


def _try(scorer: Scorer, model: LanguageModel, prompts: Sequence[Conversation], settings: PPOJob) -> None:
    """Call functions once on short completions, so that a mistake in one shows before long work."""
    sampling = replace(settings.sampling, max_tokens=min(8, settings.max_tokens))
    turns = model.sampler.sample(prompts, sampling=sampling, seed=settings.seed)
    scorer.score(prompts, [turn.completion for turn in turns])


def _texts(prompts: Sequence[Conversation], settings: PPOJob, model: LanguageModel) -> list[Completion]:
    """What the model writes for a few prompts of training, unscored: a reward function is called for training alone."""
    turns = model.sampler.sample(prompts, sampling=settings.sampling, seed=derive(settings.seed, "shown"))
    return [turn.completion for turn in turns]


class _SampleLog:
    """Write a few completions of every n-th rollout to samples.jsonl; `job` is set when the run is open."""

    job: Job

    def __init__(self, settings: PPOJob) -> None:
        self._settings = settings

    def __call__(self, rollout: Rollout) -> Metrics:
        last = rollout.iteration + 1 == self._settings.iterations
        if rollout.iteration % self._settings.samples_every == 0 or last:
            for place in range(min(_SHOWN_COMPLETIONS, len(rollout.prompts))):
                row = {
                    "prompt": rollout.prompts[place].last_user_text,
                    "completion": rollout.completions[place].text,
                    "stop": str(rollout.completions[place].stop),
                    "reward": rollout.rewards[place],
                    "iteration": rollout.iteration + 1,
                }
                self.job.run.samples.append(rollout.iteration + 1, row)
        return {}


def _policy(files: Files, settings: SFTJob | DPOJob | PPOJob, display: Display) -> LanguageModel:
    model = load_language_model(model_folder(files.model), machine=settings.machine, lora=settings.lora)
    if model.template.used_default:
        display.say("the tokenizer has no chat template: plain Human/Assistant transcripts are used, and saved with it")
    if settings.lora.rank and adapter_base(model.path) is not None:
        display.say("the model is an adapter: it is trained further as it is, and lora settings are not used")
    return model


def _job(
    kind: str, files: Files, settings: RunSettings, display: Display, sources: Sequence[DataSource],
    parents: Mapping[str, str],
) -> AbstractContextManager[Job]:  # fmt: skip
    return open_job(kind, files, settings, display, sources=sources, parents=parents)


def _chosen(row: Metrics, *names: str) -> Metrics:
    return {name: row[name] for name in names if name in row}
