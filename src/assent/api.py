"""The Python API, for scripts and notebooks: load, sample, evaluate, and a function for each method of training.

Models are trained in place and handed back. Settings are keyword arguments with the names of the command line's
`--set`. Data is a path, examples of `assent.types`, or rows in memory (`assent.recipes.run.given`). A reward may be a
reward model, a classifier, or a function of prompts and completions (two lists of text). Everything the user gets
wrong raises `assent.errors.AssentError` with a message of what, where and what now.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch

from assent.algorithms.methods import FUNCTIONS, METHODS, Reads, load_named
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.reward import RewardSettings
from assent.config import parse
from assent.environments.acting import InEnvironment
from assent.errors import ConfigError
from assent.evals.intervals import Interval, bootstrap_mean
from assent.evals.reward_quality import ClassifierQuality, RewardQuality, classifier_quality, reward_quality
from assent.model.cpu_threads import watch_cores
from assent.ports.environment import Environment
from assent.recipes.run import call_settings as calls
from assent.recipes.run import given
from assent.recipes.run.annotators import for_annotator
from assent.recipes.run.answer_sampling import answer_defaults, sampling_of
from assent.recipes.run.inputs import model_folder
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    load_language_model,
    load_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.run.progress import Display
from assent.recipes.run.python_calls import OnStep, check_on_step, python_call, watched
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.recipes.training.prepare import prepare_offline, score_judged
from assent.recipes.training.prepare_on_policy import PTXPrompts, prepare_on_policy
from assent.recipes.training.reward_start import reward_on, reward_to_train

Rows = Iterable[Any]
"""Rows in memory: dicts, columns, a data frame, an Arrow table, a data set, or examples of `assent.types`."""
Data = Rows | str | Path


@python_call()
def load(
    model: str | Path, *, lora_rank: int = 0, device: str | torch.device = "auto", precision: str = "fp32"
) -> LanguageModel:
    """A causal language model from a folder (of a model, an adapter or a run) or a hub name.

    `lora_rank` > 0 puts a fresh trainable adapter on it; 0 trains all weights. `precision` is fp32, or bf16 products
    over fp32 weights. Raises ConfigError for what is no language model.
    """
    path = given.model_or_path(model, loader="load")
    chosen = parse(calls.LoadCall, base={"lora_rank": lora_rank, "device": _device(device), "precision": precision})
    return load_language_model(model_folder(path), machine=chosen, lora=LoraOptions(rank=chosen.lora_rank))


@python_call()
def load_reward(
    model: str | Path, *, positive: str | int | None = None, annotator: str | None = None,
    device: str | torch.device = "auto",
) -> RewardModel:  # fmt: skip
    """A reward model or classifier; `positive` names the class whose logit is the reward (default: the last).

    `annotator` names one or, with commas, several whose mean head it takes.
    """
    path = given.model_or_path(model, loader="load_reward")
    machine = parse(MachineOptions, base={"device": _device(device)})
    reward = load_reward_model(model_folder(path), machine=machine, positive=given.class_name(positive))
    return for_annotator(reward, annotator, Display())


@python_call()
def set_threads(count: int) -> None:
    """Compute with this many CPU threads from now on, in the whole process; by default there is one for each core.

    Another number may change the last bits of a result.
    """
    torch.set_num_threads(parse(calls.ThreadCall, base={"threads": count}).threads)
    watch_cores()


@functools.cache
def trainer(function: str) -> Callable[..., Any]:
    """The function of a method, such as `assent.sft`, made from the table of methods."""
    name = FUNCTIONS[function]
    made = functools.partial(_TRAINERS[METHODS[name].reads], name)
    return python_call(calls.call_settings(name), name=function, summary=METHODS[name].help)(made)


def _train_policy(
    name: str,
    model: LanguageModel,
    data: Data,
    *,
    eval_data: Data | None = None,
    out: str | Path | None = None,
    on_step: OnStep | None = None,
    **settings: Any,
) -> LanguageModel:
    """The model is trained in place and given back; with `out` it is also saved there.

    With `eval_data`, rows of metrics carry `eval_loss`: after the last step and after every `evaluate_every` steps.
    `on_step` is called with each row of metrics.
    """
    chosen: Any = parse(calls.call_settings(name), base=settings)
    policy, display = given.language_model(model), Display()
    check_on_step(on_step)
    folder = given.place(out, keeps=given.needed_beside(policy))
    method = METHODS[name]
    read = functools.partial(given.examples, reads=method.reads, call=chosen, display=display)
    examples, held = read(data), () if eval_data is None else read(eval_data)
    algorithm = load_named(method.algorithm)
    watched(method, prepare_offline(algorithm, policy, examples, chosen, seed=chosen.seed, held_out=held), on_step)
    return _saved(policy, folder)


def _train_reward_model(
    name: str,
    model: str | Path | LanguageModel,
    data: Data,
    *,
    eval_data: Data | None = None,
    out: str | Path | None = None,
    on_step: OnStep | None = None,
    **settings: Any,
) -> RewardModel:
    """It starts from the trunk of `model` as it is now; the model itself is left alone.

    Where `model` is a reward model's folder, its head is trained on. With `eval_data`, rows of metrics carry
    `eval_loss`: after the last step and after every `evaluate_every` steps. `on_step` is called with each row.
    """
    chosen: Any = parse(calls.call_settings(name), base=settings)
    start = model if isinstance(model, LanguageModel) else given.model_or_path(model, loader="load")
    check_on_step(on_step)
    folder = given.place(out, keeps=given.needed(start))
    read = functools.partial(given.judgement, call=chosen, display=Display(), ranked=chosen.loss == "plackett_luce")
    judged, held = read(data), () if eval_data is None else read(eval_data)
    lora = LoraOptions(rank=chosen.lora_rank if chosen.train == "all" else 0)
    if isinstance(start, LanguageModel):
        reward = reward_on(start, chosen, seed=chosen.seed, lora=lora)
    else:
        machine = MachineOptions()
        reward = reward_to_train(model_folder(start), chosen, machine=machine, seed=chosen.seed, lora=lora)
    algorithm = load_named(METHODS[name].algorithm)
    prepared = prepare_offline(algorithm, reward, judged, chosen, seed=chosen.seed, held_out=held)
    watched(METHODS[name], prepared, on_step)
    if folder is not None:
        save_reward_model(reward, folder)
    return reward


def _train_on_policy(
    name: str,
    model: LanguageModel,
    data: Data | Environment | InEnvironment,
    *,
    reward: given.RewardOrSeveral | None = None,
    out: str | Path | None = None,
    on_step: OnStep | None = None,
    **settings: Any,
) -> LanguageModel:
    """The model writes answers to the prompts of `data` and learns from their reward; it is given back.

    The reward is a reward model, a classifier, or a function that gives one finite number per completion; it is never
    changed. Several, in a list or by name in a dict, are added up with `reward_weights`. The reward is normalised by
    its mean and standard deviation on completions of the starting model. A `cost` is of the same kinds. `ptx_data` are
    demonstrations to imitate in every update. With `out` the model is also saved there; `on_step` gets rows of metrics.

    `data` may be an environment with prompts of its own, or `InEnvironment(prompts=..., environment=...)`: then the
    model plays episodes of several turns, and the environment's reward is enough.
    """
    cost, ptx_data = settings.pop("cost", None), settings.pop("ptx_data", None)
    chosen: Any = parse(calls.call_settings(name), base=settings)
    policy, display = given.language_model(model), Display()
    check_on_step(on_step)
    folder = given.place(out, keeps=given.needed_beside(policy))
    if isinstance(data, Environment):
        data = InEnvironment(prompts=data.prompts, environment=data)
    played = isinstance(data, InEnvironment)
    asked = data if isinstance(data, InEnvironment) else InEnvironment(prompts=given.prompts(data, chosen, display))
    if not asked.prompts:
        raise ConfigError("there are no prompts", where="data", now="Give some, or an environment that has its own.")
    rewards = given.rewards(reward, chosen.reward_weights, cost, own=played)
    asked = replace(asked, prompts=fitting_prompts(asked.prompts, policy, chosen, display))
    rewards.check(asked.prompts)
    shown = () if ptx_data is None else given.examples(ptx_data, reads="demonstrations", call=chosen, display=display)
    prepared = prepare_on_policy(
        load_named(METHODS[name].algorithm), policy, PTXPrompts(prompts=asked, ptx=shown), chosen, seed=chosen.seed,
        reward=rewards.scorer, observer=Observer(say=display.say),
    )  # fmt: skip
    watched(METHODS[name], prepared, on_step)
    return _saved(policy, folder)


_TRAINERS: dict[Reads, Callable[..., Any]] = {
    "demonstrations": _train_policy, "comparisons": _train_policy, "rankings": _train_policy, "labels": _train_policy,
    "dialogues": _train_policy, "preferences": _train_reward_model, "prompts": _train_on_policy,
}  # fmt: skip


@python_call(calls.SampleCall)
def sample(model: LanguageModel, prompts: Data, *, seed: int = 0, **settings: Any) -> list[str]:
    """One completion per prompt, sampled as the model's generation_config.json says unless you say otherwise.

    Text is a prompt, unless it names a file or looks like a path; a list of texts is a list of prompts.
    """
    chosen, policy = parse(calls.SampleCall, base={"seed": seed, **settings}), given.language_model(model)
    asked = given.prompts(prompts, chosen, Display())
    turns = policy.sampler.sample(asked, sampling=sampling_of(chosen, answer_defaults(policy)), seed=chosen.seed)
    return [turn.completion.text for turn in turns]


@overload
def evaluate(
    model: LanguageModel, data: Data, *, reward: given.RewardOrSeveral, seed: int = 0, **settings: Any
) -> Interval: ...


@overload
def evaluate(
    model: RewardModel, data: Data, *, seed: int = 0, **settings: Any
) -> RewardQuality | ClassifierQuality: ...


@python_call(calls.EvaluateCall)
def evaluate(
    model: LanguageModel | RewardModel,
    data: Data,
    *,
    reward: given.RewardOrSeveral | None = None,
    seed: int = 0,
    **settings: Any,
) -> Interval | RewardQuality | ClassifierQuality:
    """A policy: its mean raw reward on prompts, with a 95 % interval; of several rewards, their weighted sum.

    A reward model: its quality on held-out judgement.

    For labels the quality is that of a classifier (AUC). A policy takes the settings of `sample`, a reward model
    `max_length` and `micro_batch_tokens`.
    """
    if isinstance(model, RewardModel):
        if reward is not None:
            raise ConfigError("a reward model is evaluated on judgement alone", where="reward", now="Leave it out.")
        call = parse(calls.MeasureCall, base={"seed": seed, **settings})
        sizes = RewardSettings(max_length=call.max_length, micro_batch_tokens=call.micro_batch_tokens)
        scored = score_judged(model, given.judgement(data, call, Display()), sizes)
        if scored.judgements[0].label is None:
            return reward_quality(scored.pairs, seed=seed)
        labels = [one.label or 0.0 for one in scored.judgements]
        return classifier_quality([values[0] for values in scored.rewards], labels)
    chosen, policy = parse(calls.JudgeCall, base={"seed": seed, **settings}), given.language_model(model)
    if reward is None:
        raise ConfigError("a policy is evaluated by a reward", now="Give reward=...")
    prompts, rewards = given.prompts(data, chosen, Display()), given.rewards(reward, chosen.reward_weights)
    rewards.check(prompts)
    turns = policy.sampler.sample(prompts, sampling=sampling_of(chosen), seed=chosen.seed)
    scores = rewards.scorer.score(prompts, [turn.completion for turn in turns])
    return bootstrap_mean(scores, seed=seed, groups=prompts)


def _device(device: object) -> object:
    return str(device) if isinstance(device, torch.device) else device


def _saved(model: LanguageModel, folder: Path | None) -> LanguageModel:
    if folder is None:
        return model
    save_language_model(model, folder)
    return replace(model, path=str(folder))
