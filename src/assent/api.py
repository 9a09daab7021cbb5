"""The Python API, for scripts and notebooks: load, sft, train_reward, ppo, dpo, sample, evaluate.

Models are trained in place and handed back. Settings are keyword arguments with the names of the command line's
`--set`. A reward may be a reward model, a classifier, or a function of prompts and completions (two lists of text).
Everything the user gets wrong raises `assent.errors.AssentError` with a message of what, where and what now.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.loop import Task, Watch
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.config import parse
from assent.data.load import load_comparisons, load_demonstrations, load_prompts
from assent.errors import ConfigError
from assent.evals.intervals import Interval, bootstrap_mean
from assent.evals.reward_quality import ClassifierQuality, RewardQuality, classifier_quality, reward_quality
from assent.metrics import Metrics
from assent.ports.sampling import Scorer
from assent.recipes.inference import sampling_of
from assent.recipes.inputs import Files, model_folder, read_judgement
from assent.recipes.job_settings import SampleJob
from assent.recipes.left_out import fitting_prompts
from assent.recipes.models import (
    LanguageModel,
    LoraOptions,
    MachineOptions,
    RewardModel,
    adapter_base,
    load_language_model,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.progress import Display
from assent.recipes.reading import Reading
from assent.recipes.reward_functions import FunctionScorer, function_reward, is_function
from assent.recipes.rewards import Rewards, name_of_folder, weighted
from assent.recipes.training import Prepared, prepare_dpo, prepare_ppo, prepare_reward, prepare_sft, score_judged
from assent.types import Comparison, Completion, Conversation, Demonstration, Ranking, Rating

RewardFunction = Callable[..., Iterable[float]]
Reward = RewardModel | RewardFunction | Scorer | str | Path
RewardOrSeveral = Reward | Sequence[Reward] | Mapping[str, Reward]
Prompts = Sequence[str] | Sequence[Conversation] | str | Path
Judged = Sequence[Comparison] | Sequence[Ranking] | Sequence[Rating] | str | Path
OnStep = Callable[[Metrics], None]


def load(model: str | Path, *, lora_rank: int = 0, device: str = "auto", precision: str = "fp32") -> LanguageModel:
    """A causal language model from a folder (of a model, an adapter or a run) or a hub name.

    `lora_rank` > 0 puts a fresh trainable adapter on it; 0 trains all weights. `precision` is fp32, or bf16 products
    over fp32 weights. Raises ConfigError for what is no language model.
    """
    machine = parse(MachineOptions, base={"device": device, "precision": precision})
    return load_language_model(model_folder(str(model)), machine=machine, lora=_lora(lora_rank))


def load_reward(model: str | Path, *, positive: str | None = None, device: str = "auto") -> RewardModel:
    """A reward model or classifier; `positive` names the class whose logit is the reward (default: the last)."""
    machine = parse(MachineOptions, base={"device": device})
    return load_reward_model(model_folder(str(model)), machine=machine, positive=positive)


def sft(
    model: LanguageModel,
    data: Sequence[Demonstration] | str | Path,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    **settings: Any,
) -> LanguageModel:
    """Fine-tune on demonstrations, or on a file of them, with the loss on the assistant's words only.

    With `out` the model is also saved there. `on_step` is called with each row of metrics. Settings: `SFTSettings`.
    """
    chosen = parse(SFTSettings, base=settings)
    shown = load_demonstrations(data).examples if isinstance(data, str | Path) else data
    _run("fine-tune (SFT)", prepare_sft(model, shown, chosen, seed=seed), on_step)
    return _saved(model, out)


def train_reward(
    model: str | Path | LanguageModel,
    data: Judged,
    *,
    out: str | Path | None = None,
    lora_rank: int = 0,
    seed: int = 0,
    on_step: OnStep | None = None,
    **settings: Any,
) -> RewardModel:
    """A reward model on the trunk of `model` as it is now, learnt from comparisons, rankings or good/bad labels.

    Where `model` is a reward model's folder, its head is trained on. The model itself is left alone. Settings:
    `RewardSettings`.
    """
    chosen = parse(RewardSettings, base=settings)
    judged = _judged(data, ranked=chosen.loss == "plackett_luce")
    reward = _reward_on(model, chosen, lora_rank, seed)
    if reward.goes_on:
        how = "fitted anew" if chosen.train == "head" else "trained on"
        Display().say(f"{reward.path} is a reward model: its head is {how}")
    _run("reward model", prepare_reward(reward, judged, chosen, seed=seed), on_step)
    if out is not None:
        save_reward_model(reward, Path(out))
    return reward


def ppo(
    model: LanguageModel,
    prompts: Prompts,
    *,
    reward: RewardOrSeveral,
    out: str | Path | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    **settings: Any,
) -> LanguageModel:
    """Train against a reward, held near the model as it is now by a KL penalty.

    The reward is a reward model, a classifier, or a function that gives one finite number per completion; it is never
    changed. Several, in a list or by name in a dict, are added up with `reward_weights`. PPO normalises the reward by
    its mean and spread on completions of the starting model. Settings: `PPOSettings`.
    """
    chosen = parse(PPOSettings, base=settings)
    display = Display()
    asked = fitting_prompts(_prompts(prompts), model, chosen.max_tokens, display)
    rewards = _rewards(reward, chosen.reward_weights)
    rewards.check(asked)
    _run("PPO", prepare_ppo(model, asked, chosen, seed=seed, reward=rewards.scorer, say=display.say), on_step)
    return _saved(model, out)


def dpo(
    model: LanguageModel,
    data: Sequence[Comparison] | str | Path,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    **settings: Any,
) -> LanguageModel:
    """Train on comparisons directly, held near the model as it is now. Settings: `DPOSettings`."""
    chosen = parse(DPOSettings, base=settings)
    pairs = load_comparisons(data).examples if isinstance(data, str | Path) else data
    _run("DPO", prepare_dpo(model, pairs, chosen, seed=seed), on_step)
    return _saved(model, out)


def sample(model: LanguageModel, prompts: Prompts, *, seed: int = 0, **settings: Any) -> list[str]:
    """One completion per prompt. Settings: max_tokens, temperature (0 is greedy), top_p, top_k, batch_size."""
    return [completion.text for completion in _complete(model, _prompts(prompts), seed, settings)]


@overload
def evaluate(
    model: LanguageModel,
    data: Prompts,
    *,
    reward: RewardOrSeveral,
    reward_weights: Sequence[float] = (),
    seed: int = 0,
    **settings: Any,
) -> Interval: ...


@overload
def evaluate(
    model: RewardModel, data: Judged, *, seed: int = 0, **settings: Any
) -> RewardQuality | ClassifierQuality: ...


def evaluate(
    model: LanguageModel | RewardModel,
    data: Prompts | Judged,
    *,
    reward: RewardOrSeveral | None = None,
    reward_weights: Sequence[float] = (),
    seed: int = 0,
    **settings: Any,
) -> Interval | RewardQuality | ClassifierQuality:
    """A policy: its mean raw reward on prompts, with a 95 % interval; of several rewards, their weighted sum.

    A reward model: its quality on held-out judgement.

    For labels the quality is that of a classifier (AUC). Settings: those of `sample`, or `RewardSettings`.
    """
    if isinstance(model, RewardModel):
        scored = score_judged(model, _judged(data), parse(RewardSettings, base=settings))  # type: ignore[arg-type]
        if scored.judgements[0].label is None:
            return reward_quality(scored.pairs, seed=seed)
        labels = [one.label or 0.0 for one in scored.judgements]
        return classifier_quality([values[0] for values in scored.rewards], labels)
    if reward is None:
        raise ConfigError("a policy is evaluated by a reward", now="Give reward=...")
    prompts, rewards = _prompts(data), _rewards(reward, reward_weights)  # type: ignore[arg-type]
    rewards.check(prompts)
    return bootstrap_mean(rewards.scorer.score(prompts, _complete(model, prompts, seed, settings)), seed=seed)


def _run(name: str, prepared: Prepared, on_step: OnStep | None) -> None:
    with _watching(name, prepared.task, on_step) as watch:
        prepared.run(watch)


@contextmanager
def _watching(name: str, task: Task, on_step: OnStep | None) -> Iterator[Watch]:
    with Display().stage(name, task.total, unit=task.unit, per=task.ticks_per_unit) as stage:

        def on_tick(done: int, of: int, row: Metrics | None) -> None:
            stage.on_tick(done, of, row)
            if row is not None and on_step is not None:
                on_step(dict(row) | {"step": float(done)})

        yield Watch(on_tick=on_tick)


def _complete(
    model: LanguageModel, prompts: Sequence[Conversation], seed: int, settings: dict[str, Any]
) -> list[Completion]:
    chosen = parse(SampleJob, base=settings)
    if chosen.samples_per_prompt > 1:
        raise ConfigError("one completion per prompt is written here", now="Call again with another seed for more.")
    return [turn.completion for turn in model.sampler.sample(prompts, sampling=sampling_of(chosen), seed=seed)]


def _prompts(prompts: Prompts) -> list[Conversation]:
    if isinstance(prompts, str | Path):
        return list(load_prompts(prompts).examples)
    return [Conversation.of_user(one) if isinstance(one, str) else one for one in prompts]


def _judged(data: Judged, *, ranked: bool = False) -> Sequence[Any]:
    if not isinstance(data, str | Path):
        return data
    files = Files(model="", out=Path(), data=(str(data),))
    found, _ = read_judgement(files, Display(quiet=True), learn="auto", reading=Reading(), limit=None, ranked=ranked)
    return found.examples


def _rewards(reward: RewardOrSeveral, weights: Sequence[float]) -> Rewards:
    if isinstance(reward, Mapping):
        return Rewards(scorer=weighted([(name, _scorer(one)[1]) for name, one in reward.items()], weights))
    several = reward if isinstance(reward, Sequence) and not isinstance(reward, str) else [reward]
    return Rewards(scorer=weighted([_scorer(one) for one in several], weights))


def _scorer(reward: Reward) -> tuple[str, Scorer]:
    """What scores, and its name."""
    if isinstance(reward, str) and is_function(reward):
        return reward.rpartition(":")[2], function_reward(reward).scorer
    judge = load_reward(reward) if isinstance(reward, str | Path) else reward
    if isinstance(judge, RewardModel):
        return name_of_folder(judge.path), judge.scorer
    if callable(judge):
        function = FunctionScorer(judge)
        return function.name, function
    return type(judge).__name__, judge


def _reward_on(model: str | Path | LanguageModel, settings: RewardSettings, lora_rank: int, seed: int) -> RewardModel:
    """A fresh reward model on a folder, or on a loaded model as it is now (through a folder that is taken away)."""
    lora = _lora(lora_rank)
    if not isinstance(model, LanguageModel):
        path = model_folder(str(model))
        return new_reward_model(path, machine=MachineOptions(), seed=seed, lora=lora, classes=settings.classes)
    if lora_rank and model.role.adapter is None:
        raise ConfigError("an adapter needs a base model on the disk", now="Save the model first and give its folder.")
    body = model.role.body
    machine = MachineOptions(device=body.device.type, precision=body.precision)
    with tempfile.TemporaryDirectory() as folder:
        save_language_model(model, Path(folder) / "model")
        path = str(Path(folder) / "model")
        fresh = new_reward_model(path, machine=machine, seed=seed, lora=lora, classes=settings.classes)
    return replace(fresh, path=adapter_base(model.path) or model.path)


def _lora(rank: int) -> LoraOptions:
    return parse(LoraOptions, base={"rank": rank})


def _saved(model: LanguageModel, out: str | Path | None) -> LanguageModel:
    if out is None:
        return model
    save_language_model(model, Path(out))
    return replace(model, path=str(out))
