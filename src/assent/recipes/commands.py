"""The training commands: files in, a run folder with model, metrics, checkpoints and report out.

Each reads and checks everything first; the run folder is made when nothing that the user gave can be wrong any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from assent.algorithms.ppo import Rollout
from assent.data.load import load_comparisons, load_demonstrations, load_prompts
from assent.errors import ConfigError
from assent.evals.reward_quality import reward_quality
from assent.lineage import DataSource
from assent.metrics import Metrics
from assent.ports.sampling import Scorer
from assent.recipes.inputs import Files, model_folder, read_all, read_judgement, require_data
from assent.recipes.job_settings import DPOJob, PPOJob, RewardJob, RunSettings, SFTJob
from assent.recipes.jobs import Job, check_output, open_job
from assent.recipes.left_out import fitting_prompts, say_left_out
from assent.recipes.measured import measure_policy, measure_reward, said_of_pairs
from assent.recipes.models import (
    LanguageModel,
    RewardModel,
    adapter_base,
    load_language_model,
    load_reward_for,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.progress import Display
from assent.recipes.request import Request
from assent.recipes.rewards import function_reward, is_function
from assent.recipes.training import (
    HeldOutPairs,
    normalise_reward,
    prepare_dpo,
    prepare_ppo,
    prepare_reward,
    prepare_sft,
)
from assent.types import Conversation

_SHOWN_COMPLETIONS = 4


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
    say_left_out(display, prepared.left_out)
    with _job("sft", files, settings, display, (*data.sources, *held.sources), {"policy": model.path}) as job:
        last = job.train("fine-tune (SFT)", prepared.task)
        save_language_model(model, job.model_folder)
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
        classes=settings.classes,
    )  # fmt: skip
    prepared = prepare_reward(reward, data.examples, settings, seed=settings.seed)
    say_left_out(display, prepared.left_out)
    with _job("reward", files, settings, display, (*data.sources, *held.sources), {"policy": reward.path}) as job:
        metrics = _chosen(job.train("reward model", prepared.task), "loss", "accuracy")
        save_reward_model(reward, job.model_folder)
        if held.examples:
            measured = measure_reward(reward, held.examples, settings, display, seed=settings.seed)
            job.evidence |= measured.evidence
            metrics |= measured.metrics
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
        prepared = prepare_dpo(model, data.examples, settings, seed=settings.seed, progress=stage.counter)
    say_left_out(display, prepared.left_out)
    with _job("dpo", files, settings, display, (*data.sources, *held.sources), {"policy": model.path}) as job:
        metrics = _chosen(job.train("DPO", prepared.task), "loss", "accuracy", "margin")
        save_language_model(model, job.model_folder)
        if unseen is not None:
            measured = said_of_pairs(reward_quality(unseen.scored(), seed=settings.seed), display)
            job.evidence |= measured.evidence
            metrics |= measured.metrics
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
    judge = _Judge(request.text("reward"), model, settings)
    judge.make_ready(model, prompts, settings, display)
    task_log = _SampleLog(settings)
    prepared = prepare_ppo(
        model, prompts, settings, seed=settings.seed, reward=judge.network, scorer=judge.scorer, observer=task_log
    )
    before = _rewards_of("before", model, unseen, judge.scorer, settings, display)
    sources = (*data.sources, *held.sources, *judge.sources)
    with _job("ppo", files, settings, display, sources, {"policy": model.path, **judge.parents}) as job:
        task_log.job = job
        metrics = _chosen(job.train("PPO", prepared.task), "reward", "kl", "entropy")
        save_language_model(model, job.model_folder)
        after = _rewards_of("after", model, unseen, judge.scorer, settings, display)
        if unseen:
            job.evidence["reward"] = {**before, **after}
            metrics |= {f"eval_reward_{name}": mean.mean for name, mean in job.evidence["reward"].items()}
        return job.finish(metrics, title="PPO against a reward")


class _Judge:
    """What gives the reward: a reward model or classifier (`network`), or a function of the user's."""

    def __init__(self, name: str | None, model: LanguageModel, settings: PPOJob) -> None:
        if name is None:
            raise ConfigError(
                "no reward was given", now="Name a reward model, a classifier or FILE.py:NAME with --reward."
            )
        self.network: RewardModel | None = None
        self.parents: dict[str, str] = {}
        self.sources: tuple[DataSource, ...] = ()
        if is_function(name):
            function = function_reward(name)
            self.scorer: Scorer = function.scorer
            self.sources = (function.source,)
            return
        self.parents["reward"] = model_folder(name)
        self.network = load_reward_for(
            model, self.parents["reward"], machine=settings.machine, positive=settings.positive
        )
        self.scorer = self.network.scorer

    def make_ready(
        self, model: LanguageModel, prompts: Sequence[Conversation], settings: PPOJob, display: Display
    ) -> None:
        """Normalise a network on completions of the model as it is; try a function on two of them."""
        if self.network is not None:
            display.say("normalising the reward on completions of the reference")
            chosen = prompts[: settings.normalise_prompts]
            normalise_reward(self.network, model, chosen, settings, seed=settings.seed)
            return
        few = prompts[:2]
        sampling = replace(settings.sampling, max_tokens=min(8, settings.max_tokens))
        turns = model.sampler.sample(few, sampling=sampling, seed=settings.seed)
        self.scorer.score(few, [turn.completion for turn in turns])


def _rewards_of(
    name: str, model: LanguageModel, prompts: Sequence[Conversation], scorer: Scorer, settings: PPOJob, display: Display
) -> dict:  # type: ignore[type-arg]
    if not prompts:
        return {}
    written = measure_policy(name, model, prompts, scorer, settings.sampling, display, seed=settings.seed)
    return {name: written.mean}


class _SampleLog:
    """Write a few completions of every n-th rollout to samples.jsonl; `job` is set when the run is open."""

    job: Job

    def __init__(self, settings: PPOJob) -> None:
        self._settings = settings

    def __call__(self, rollout: Rollout) -> Metrics:
        if rollout.iteration % self._settings.samples_every == 0:
            for place in range(min(_SHOWN_COMPLETIONS, len(rollout.prompts))):
                row = {
                    "prompt": rollout.prompts[place].last_user_text,
                    "completion": rollout.completions[place].text,
                    "stop": str(rollout.completions[place].stop),
                    "reward": rollout.rewards[place],
                }
                self.job.run.samples.append(rollout.iteration * (self._settings.updates + 1) + 1, row)
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
