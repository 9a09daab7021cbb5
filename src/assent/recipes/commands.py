"""The training commands: files in, a run folder with model, metrics, checkpoints and report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from assent.algorithms.ppo import Rollout
from assent.data.load import load_comparisons, load_demonstrations, load_prompts, load_ratings
from assent.errors import ConfigError, DataError
from assent.evals.reward_quality import ClassifierQuality, RewardQuality, classifier_quality, reward_quality
from assent.metrics import Metrics
from assent.recipes.inputs import Files, Read, model_folder, read_all
from assent.recipes.job_settings import DPOJob, JobSettings, PPOJob, RewardJob, SFTJob
from assent.recipes.jobs import Job, open_job
from assent.recipes.models import (
    LanguageModel,
    RewardModel,
    load_language_model,
    load_reward_for,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.progress import Display
from assent.recipes.request import Request
from assent.recipes.rewards import function_scorer, is_function
from assent.recipes.training import normalise_reward, score_judged, train_dpo, train_ppo, train_reward_model, train_sft


def run_sft(request: Request, display: Display) -> Path:
    """`assent sft`: imitate demonstrations (or the chosen side of comparisons)."""
    files, settings = request.files, request.settings(SFTJob)
    require_data(files)
    data = read_all(files.data, load_demonstrations, files, display, role="train", limit=settings.limit)
    held = read_all(files.eval_data, load_demonstrations, files, display, role="eval")
    model = _policy(files, settings, display)
    with _job("sft", files, settings, display, (data, held), {"policy": model.path}) as job:
        steps = _steps(len(data.examples), settings.epochs, settings.batch_size)
        with job.training("fine-tune (SFT)", steps) as watch:
            trained = train_sft(
                model, data.examples, settings, seed=settings.seed, held_out=held.examples, watch=watch,
                resume=files.resume,
            )  # fmt: skip
        _say_left_out(display, trained.left_out)
        save_language_model(model, job.model_folder)
        return job.finish(_last(trained.rows, "loss", "eval_loss"), title="Supervised fine-tuning")


def run_reward(request: Request, display: Display) -> Path:
    """`assent reward`: learn a reward from comparisons and rankings, or from good/bad labels."""
    files, settings = request.files, request.settings(RewardJob)
    require_data(files)
    data, held = _judgement(files, settings, display)
    path = model_folder(files.model)
    reward = new_reward_model(
        path, machine=settings.machine, seed=settings.seed, lora=settings.lora, classes=settings.classes
    )
    with _job("reward", files, settings, display, (data, held), {"policy": path}) as job:
        groups = _groups(data.examples)
        with job.training("reward model", _steps(groups, settings.epochs, settings.batch_size)) as watch:
            trained = train_reward_model(
                reward, data.examples, settings, seed=settings.seed, watch=watch, resume=files.resume
            )
        _say_left_out(display, trained.left_out)
        save_reward_model(reward, job.model_folder)
        metrics = _last(trained.rows, "loss", "accuracy")
        if held.examples:
            metrics |= _judge_reward(job, reward, held, settings)
        return job.finish(metrics, title="Reward model")


def _judge_reward(job: Job, reward: RewardModel, held: Read, settings: RewardJob) -> Metrics:
    scored = score_judged(reward, held.examples, settings)
    if scored.judgements[0].label is not None:
        quality = classifier_quality(
            [values[0] for values in scored.rewards], [one.label or 0.0 for one in scored.judgements]
        )
        job.evidence["classifier"] = quality
        return say_classifier(quality, job.display)
    pairs = reward_quality(scored.pairs, seed=settings.seed)
    job.evidence["reward_model"] = pairs
    return say_pairs(pairs, job.display)


def say_classifier(quality: ClassifierQuality, display: Display) -> Metrics:
    """Say how good a classifier is, in a line."""
    area = quality.auc
    display.say(
        f"held out: AUC {area.mean:.3f} ({area.low:.3f} to {area.high:.3f}), accuracy {quality.accuracy:.3f}, "
        f"{quality.count} labels"
    )
    return {"auc": area.mean, "eval_accuracy": quality.accuracy}


def say_pairs(quality: RewardQuality, display: Display) -> Metrics:
    """Say how good a reward model is, in a line."""
    span = quality.accuracy_interval
    display.say(
        f"held out: {quality.accuracy:.3f} of {quality.pairs} pairs right ({span.low:.3f} to {span.high:.3f}), "
        f"calibration error {quality.ece:.3f}"
    )
    return {"eval_accuracy": quality.accuracy, "ece": quality.ece}


def run_dpo(request: Request, display: Display) -> Path:
    """`assent dpo`: learn from comparisons without a reward model."""
    files, settings = request.files, request.settings(DPOJob)
    require_data(files)
    data = read_all(files.data, load_comparisons, files, display, role="train", limit=settings.limit)
    model = _policy(files, settings, display)
    with _job("dpo", files, settings, display, (data,), {"policy": model.path}) as job:
        steps = _steps(len(data.examples), settings.epochs, settings.batch_size)
        with job.training("DPO", steps) as watch:
            trained = train_dpo(model, data.examples, settings, seed=settings.seed, watch=watch, resume=files.resume)
        _say_left_out(display, trained.left_out)
        save_language_model(model, job.model_folder)
        return job.finish(_last(trained.rows, "loss", "accuracy", "margin"), title="Direct preference optimisation")


def run_ppo(request: Request, display: Display) -> Path:
    """`assent ppo`: train against a reward model, a classifier, or a Python function `module:name`."""
    files, settings, reward_name = request.files, request.settings(PPOJob), request.text("reward")
    require_data(files)
    if reward_name is None:
        raise ConfigError("no reward was given", now="Name a reward model, a classifier or FILE.py:NAME with --reward.")
    data = read_all(files.data, load_prompts, files, display, role="prompts", limit=settings.limit)
    model = _policy(files, settings, display)
    prompts = fitting_prompts(data.examples, model, settings.max_tokens, display)
    parents = {"policy": model.path}
    reward = scorer = None
    if is_function(reward_name):
        scorer = function_scorer(reward_name)
    else:
        parents["reward"] = model_folder(reward_name)
        reward = load_reward_for(model, parents["reward"], machine=settings.machine, positive=settings.positive)
    with _job("ppo", files, settings, display, (data,), parents) as job:
        if reward is not None:
            display.say("normalising the reward on completions of the reference")
            chosen = prompts[: settings.normalise_prompts]
            normalise_reward(reward, model, chosen, settings, seed=settings.seed)
            job.run.metrics.sync()
        with job.training("PPO", settings.iterations * (settings.updates + 1)) as watch:
            trained = train_ppo(
                model, prompts, settings, seed=settings.seed, reward=reward, scorer=scorer,
                observer=_sample_log(job, settings), watch=watch, resume=files.resume,
            )  # fmt: skip
        save_language_model(model, job.model_folder)
        return job.finish(_last(trained.rows, "reward", "kl", "entropy"), title="PPO against a reward")


class _sample_log:  # noqa: N801  (used as a function)
    """Write a few completions of every n-th rollout to samples.jsonl."""

    def __init__(self, job: Job, settings: PPOJob) -> None:
        self._job, self._settings = job, settings

    def __call__(self, rollout: Rollout) -> Metrics:
        if rollout.iteration % self._settings.samples_every == 0:
            for place in range(min(4, len(rollout.prompts))):
                row = {
                    "prompt": rollout.prompts[place].last_user_text,
                    "completion": rollout.completions[place].text,
                    "stop": str(rollout.completions[place].stop),
                    "reward": rollout.rewards[place],
                }
                self._job.run.samples.append(rollout.iteration * (self._settings.updates + 1) + 1, row)
        return {}


def fitting_prompts(prompts: Sequence, model: LanguageModel, max_tokens: int, display: Display) -> list:  # type: ignore[type-arg]
    """Prompts that leave room for `max_tokens`; the others are left out and counted."""
    limit = model.role.body.max_length
    lengths = [len(ids) for ids in model.template.encode_prompts(list(prompts))]
    kept = [p for p, length in zip(prompts, lengths, strict=True) if limit is None or length + max_tokens <= limit]
    if not kept:
        raise DataError(
            f"no prompt leaves room for {max_tokens} tokens in a model that holds {limit}",
            now="Use shorter prompts or --set max_tokens=N.",
        )
    _say_left_out(display, len(prompts) - len(kept))
    return kept


def _judgement(files: Files, settings: RewardJob, display: Display) -> tuple[Read, Read]:
    loaders = {"comparisons": load_comparisons, "labels": load_ratings}
    order = ["comparisons", "labels"] if settings.learn == "auto" else [settings.learn]
    for place, name in enumerate(order):
        try:
            data = read_all(files.data, loaders[name], files, display, role="train", limit=settings.limit)  # type: ignore[arg-type]
        except DataError:
            if place + 1 == len(order):
                raise
            continue
        return data, read_all(files.eval_data, loaders[name], files, display, role="eval")  # type: ignore[arg-type]
    raise AssertionError("one of the loaders read the file or said why not")


def _policy(files: Files, settings: SFTJob | DPOJob | PPOJob, display: Display) -> LanguageModel:
    model = load_language_model(model_folder(files.model), machine=settings.machine, lora=settings.lora)
    if model.template.used_default:
        display.say("the tokenizer has no chat template: plain Human/Assistant transcripts are used, and saved with it")
    return model


def _job(
    kind: str, files: Files, settings: JobSettings, display: Display, read: Sequence[Read], parents: Mapping[str, str]
) -> AbstractContextManager[Job]:  # fmt: skip
    sources = [source for part in read for source in part.sources]
    return open_job(kind, files, settings, display, sources=sources, parents=parents)


def _steps(count: int, epochs: float, batch_size: int) -> int:
    return max(1, round(epochs * -(-count // batch_size)))


def _groups(examples: Sequence) -> int:  # type: ignore[type-arg]
    named = {(one.group, one.prompt) for one in examples if getattr(one, "group", "")}
    return len(named) + sum(not getattr(one, "group", "") for one in examples)


def _last(rows: Sequence[Metrics], *names: str) -> Metrics:
    found: Metrics = {}
    for row in rows:
        found |= {name: row[name] for name in names if name in row}
    return found


def _say_left_out(display: Display, count: int) -> None:
    if count:
        display.say(f"{count} were too long for the model and are left out")


def require_data(files: Files) -> None:
    """At least one --data file."""
    if not files.data:
        raise ConfigError("no data was given", now="Name a file with --data.")
