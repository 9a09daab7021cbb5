"""The Python API, for scripts and notebooks: load, sft, train_reward, ppo, dpo, sample, evaluate.

Models are trained in place and handed back. Settings are keyword arguments with the names of the command line's
`--set`. A reward may be a reward model, a classifier, or a function of prompts and completions (two lists of text).
Everything the user gets wrong raises `assent.errors.AssentError` with a message of what, where and what now.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.loop import Watch
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.backends.local.sampler import FunctionScorer
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
from assent.recipes.rewards import function_reward, is_function
from assent.recipes.training import (
    Prepared,
    normalise_reward,
    prepare_dpo,
    prepare_ppo,
    prepare_reward,
    prepare_sft,
    score_judged,
)
from assent.types import Comparison, Completion, Conversation, Demonstration, Ranking, Rating

RewardFunction = Callable[[list[str], list[str]], Sequence[float]]
Reward = RewardModel | RewardFunction | str | Path
Prompts = Sequence[str] | Sequence[Conversation] | str | Path
Judged = Sequence[Comparison] | Sequence[Ranking] | Sequence[Rating] | str | Path
OnStep = Callable[[Metrics], None]
_NORMALISE_PROMPTS = 256


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

    The model itself is left alone. Settings: `RewardSettings`.
    """
    chosen = parse(RewardSettings, base=settings)
    judged = _judged(data, ranked=chosen.loss == "plackett_luce")
    reward = _reward_on(model, chosen, lora_rank, seed)
    _run("reward model", prepare_reward(reward, judged, chosen, seed=seed), on_step)
    if out is not None:
        save_reward_model(reward, Path(out))
    return reward


def ppo(
    model: LanguageModel,
    prompts: Prompts,
    *,
    reward: Reward,
    out: str | Path | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    **settings: Any,
) -> LanguageModel:
    """Train against a reward, held near the model as it is now by a KL penalty.

    A reward model is normalised first: mean 0 and spread 1 on completions of the model as it is. A function gets two
    lists of text (the last user messages, the completions) and gives one finite number per completion. Settings:
    `PPOSettings`.
    """
    chosen = parse(PPOSettings, base=settings)
    asked = fitting_prompts(_prompts(prompts), model, chosen.max_tokens, Display())
    judge = _judge(reward)
    network = judge if isinstance(judge, RewardModel) else None
    if network is not None:
        normalise_reward(network, model, asked[:_NORMALISE_PROMPTS], chosen, seed=seed)
    prepared = prepare_ppo(model, asked, chosen, seed=seed, reward=network, scorer=_scorer(judge))
    _run("PPO", prepared, on_step)
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
def evaluate(model: LanguageModel, data: Prompts, *, reward: Reward, seed: int = 0, **settings: Any) -> Interval: ...


@overload
def evaluate(
    model: RewardModel, data: Judged, *, seed: int = 0, **settings: Any
) -> RewardQuality | ClassifierQuality: ...


def evaluate(
    model: LanguageModel | RewardModel,
    data: Prompts | Judged,
    *,
    reward: Reward | None = None,
    seed: int = 0,
    **settings: Any,
) -> Interval | RewardQuality | ClassifierQuality:
    """A policy: its mean reward on prompts, with a 95 % interval. A reward model: its quality on held-out judgement.

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
    prompts, scorer = _prompts(data), _scorer(_judge(reward))  # type: ignore[arg-type]
    return bootstrap_mean(scorer.score(prompts, _complete(model, prompts, seed, settings)), seed=seed)


def _run(name: str, prepared: Prepared, on_step: OnStep | None) -> None:
    with _watching(name, prepared.task.total, on_step) as watch:
        prepared.run(watch)


@contextmanager
def _watching(name: str, total: int, on_step: OnStep | None) -> Iterator[Watch]:
    with Display().stage(name, total) as stage:

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


def _judge(reward: Reward) -> RewardModel | RewardFunction | Scorer:
    if isinstance(reward, Path):
        return load_reward(reward)
    if isinstance(reward, str):
        return function_reward(reward).scorer if is_function(reward) else load_reward(reward)
    return reward


def _scorer(judge: RewardModel | RewardFunction | Scorer) -> Scorer:
    if isinstance(judge, RewardModel):
        return judge.scorer
    return FunctionScorer(judge) if callable(judge) else judge


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
