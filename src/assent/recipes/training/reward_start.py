"""The reward model that a training begins with."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assent.algorithms.reward import RewardSettings
from assent.errors import ConfigError
from assent.recipes.run.adapters import adapter_base
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    head_alone,
    load_reward_model,
    new_reward_model,
    save_language_model,
)


def reward_to_train(
    path: str, settings: RewardSettings, *, machine: MachineOptions, seed: int, lora: LoraOptions,
    names: Sequence[str] = ("bad", "good"),
) -> RewardModel:  # fmt: skip
    """The model at `path` as `settings.train` wants it: whole, with a head to be fitted alone, or as it is for people.

    `names` are those of two classes.
    """
    if settings.train == "people":
        return load_reward_model(path, machine=machine)
    alone, classes = settings.train == "head", settings.classes
    put = None if alone else lora
    reward = new_reward_model(path, machine=machine, seed=seed, lora=put, classes=classes, names=names)
    return head_alone(reward) if alone else reward


def reward_on(model: LanguageModel, settings: RewardSettings, *, seed: int, lora: LoraOptions) -> RewardModel:
    """A fresh reward model on a loaded model as it is now, through a folder that is taken away."""
    if settings.train == "people":
        now = "Give the folder of one."
        raise ConfigError("heads of annotators are those of a reward model", where="model", now=now)
    if lora.rank and model.role.adapter is None:
        raise ConfigError("an adapter needs a base model on the disk", now="Save the model first and give its folder.")
    machine = MachineOptions(device=str(model.role.body.device), precision=model.role.body.precision)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        save_language_model(model, Path(path))
        fresh = new_reward_model(path, machine=machine, seed=seed, lora=lora, classes=settings.classes)
    return replace(fresh, path=adapter_base(model.path) or model.path)
