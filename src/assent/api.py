"""The Python API, for scripts and notebooks: load, sft, train_reward, ppo, dpo, sample, evaluate.

Models are trained in place and handed back. Settings are keyword arguments with the names of the command line's
`--set`. A reward may be a reward model, a classifier, or a function of prompts and completions (two lists of text).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assent.algorithms.loop import Watch
from assent.backends.local.sampler import FunctionScorer
from assent.config import parse
from assent.data.load import load_comparisons, load_demonstrations, load_prompts
from assent.errors import ConfigError
from assent.evals.intervals import Interval, bootstrap_mean
from assent.evals.reward_quality import RewardQuality, reward_quality
from assent.ports.sampling import Scorer
from assent.recipes.inference import sampling_of
from assent.recipes.inputs import model_folder
from assent.recipes.job_settings import DPOJob, PPOJob, RewardJob, SampleJob, SFTJob
from assent.recipes.models import (
    LanguageModel,
    LoraOptions,
    MachineOptions,
    RewardModel,
    load_language_model,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.progress import Display
from assent.recipes.training import normalise_reward, score_judged, train_dpo, train_ppo, train_reward_model, train_sft
from assent.types import Comparison, Completion, Conversation, Demonstration, Ranking, Rating

RewardFunction = Callable[[list[str], list[str]], Sequence[float]]
Reward = RewardModel | RewardFunction | str
Prompts = Sequence[str] | Sequence[Conversation] | str | Path
Judged = Sequence[Comparison] | Sequence[Ranking] | Sequence[Rating]


def load(model: str | Path, *, lora_rank: int = 0, device: str = "auto", precision: str = "fp32") -> LanguageModel:
    """A causal language model from a folder (of a model, an adapter or a run) or a hub name.

    `lora_rank` > 0 puts a fresh trainable adapter on it; 0 trains all weights.
    """
    machine = parse(MachineOptions, base={"device": device, "precision": precision})
    return load_language_model(model_folder(str(model)), machine=machine, lora=LoraOptions(rank=lora_rank))


def load_reward(model: str | Path, *, positive: str | None = None, device: str = "auto") -> RewardModel:
    """A reward model or classifier; `positive` names the class whose logit is the reward."""
    return load_reward_model(model_folder(str(model)), machine=MachineOptions(device=device), positive=positive)


def sft(
    model: LanguageModel, data: Sequence[Demonstration] | str | Path, *, out: str | Path | None = None, **settings: Any
) -> LanguageModel:
    """Fine-tune on demonstrations (or a file of them)."""
    chosen = parse(SFTJob, base=settings)
    shown = load_demonstrations(data).examples if isinstance(data, str | Path) else data
    with _watching("fine-tune (SFT)", len(shown), chosen.epochs, chosen.batch_size) as watch:
        train_sft(model, shown, chosen, seed=chosen.seed, watch=watch)
    return _saved(model, out)


def train_reward(
    model: str | Path | LanguageModel, data: Judged | str | Path, *, out: str | Path | None = None, **settings: Any
) -> RewardModel:
    """A reward model on the trunk of `model` (a folder, a hub name, or a loaded model's own origin)."""
    chosen = parse(RewardJob, base=settings)
    path = model.path if isinstance(model, LanguageModel) else model_folder(str(model))
    reward = new_reward_model(path, machine=chosen.machine, seed=chosen.seed, lora=chosen.lora, classes=chosen.classes)
    judged = load_comparisons(data).examples if isinstance(data, str | Path) else data
    with _watching("reward model", len(judged), chosen.epochs, chosen.batch_size) as watch:
        train_reward_model(reward, judged, chosen, seed=chosen.seed, watch=watch)
    if out is not None:
        save_reward_model(reward, Path(out))
    return reward


def ppo(
    model: LanguageModel, prompts: Prompts, *, reward: Reward, out: str | Path | None = None, **settings: Any
) -> LanguageModel:
    """Train against a reward, held near the model as it is now. A reward model is normalised first."""
    chosen = parse(PPOJob, base=settings)
    asked = _prompts(prompts)
    judge = load_reward(reward) if isinstance(reward, str) else reward
    network = judge if isinstance(judge, RewardModel) else None
    scorer = None if isinstance(judge, RewardModel) else FunctionScorer(judge)
    if network is not None:
        normalise_reward(network, model, asked[: chosen.normalise_prompts], chosen, seed=chosen.seed)
    display = Display()
    with display.stage("PPO", chosen.iterations * (chosen.updates + 1)) as stage:
        watch = Watch(on_tick=stage.on_tick)
        train_ppo(model, asked, chosen, seed=chosen.seed, reward=network, scorer=scorer, watch=watch)
    return _saved(model, out)


def dpo(
    model: LanguageModel, data: Sequence[Comparison] | str | Path, *, out: str | Path | None = None, **settings: Any
) -> LanguageModel:
    """Train on comparisons directly, held near the model as it is now."""
    chosen = parse(DPOJob, base=settings)
    pairs = load_comparisons(data).examples if isinstance(data, str | Path) else data
    with _watching("DPO", len(pairs), chosen.epochs, chosen.batch_size) as watch:
        train_dpo(model, pairs, chosen, seed=chosen.seed, watch=watch)
    return _saved(model, out)


def sample(model: LanguageModel, prompts: Prompts, **settings: Any) -> list[str]:
    """One completion per prompt."""
    return [completion.text for completion in _complete(model, _prompts(prompts), parse(SampleJob, base=settings))]


def evaluate(
    model: LanguageModel | RewardModel,
    data: Prompts | Judged,
    *,
    reward: Reward | None = None,
    **settings: Any,
) -> Interval | RewardQuality:
    """A policy: its mean reward on prompts, with an interval. A reward model: its quality on judged pairs."""
    if isinstance(model, RewardModel):
        chosen = parse(RewardJob, base=settings)
        judged = load_comparisons(data).examples if isinstance(data, str | Path) else data
        return reward_quality(score_judged(model, judged, chosen).pairs, seed=chosen.seed)  # type: ignore[arg-type]
    if reward is None:
        raise ConfigError("a policy is evaluated by a reward", now="Give reward=...")
    options = parse(SampleJob, base=settings)
    prompts = _prompts(data)  # type: ignore[arg-type]
    judge = load_reward(reward) if isinstance(reward, str) else reward
    scorer: Scorer = judge.scorer if isinstance(judge, RewardModel) else FunctionScorer(judge)
    return bootstrap_mean(scorer.score(prompts, _complete(model, prompts, options)), seed=options.seed)


def _complete(model: LanguageModel, prompts: Sequence[Conversation], settings: SampleJob) -> list[Completion]:
    turns = model.sampler.sample(prompts, sampling=sampling_of(settings), seed=settings.seed)
    return [turn.completion for turn in turns]


def _prompts(prompts: Prompts) -> list[Conversation]:
    if isinstance(prompts, str | Path):
        return list(load_prompts(prompts).examples)
    return [Conversation.of_user(one) if isinstance(one, str) else one for one in prompts]


def _saved(model: LanguageModel, out: str | Path | None) -> LanguageModel:
    if out is not None:
        save_language_model(model, Path(out))
    return model


@contextmanager
def _watching(name: str, count: int, epochs: float, batch_size: int) -> Iterator[Watch]:
    with Display().stage(name, max(1, round(epochs * -(-count // batch_size)))) as stage:
        yield Watch(on_tick=stage.on_tick)
