"""The features of many completions, read by two processes where there are two cores and enough to do."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assent.backends.local.features import FeatureBatch, Features, feature_batches, read_features
from assent.model.linear_heads import Floats
from assent.model.roles import ScalarRole
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import RewardModel, load_reward_model, save_reward_model
from assent.recipes.run.second_process import SecondProcess, cores
from assent.types import Completion, Conversation

WORTH_ANOTHER_PROCESS = 8000  # completions; another process begins after some six seconds


def features_of(reward: RewardModel, pairs: Sequence[tuple[Conversation, Completion]]) -> Floats:
    """What the reward model's head reads of every completion, one row each.

    On a CPU with more than one core, many completions are read by this process and another one, with one thread each:
    each takes the next batch, and a batch's numbers are the same whoever reads it.
    """
    prompts, completions = [prompt for prompt, _ in pairs], [completion for _, completion in pairs]
    if len(pairs) < WORTH_ANOTHER_PROCESS or reward.role.body.device.type != "cpu" or cores() < 2:
        return np.asarray(reward.scorer.features(prompts, completions), np.float64)
    batches = feature_batches(reward.role, reward.template, prompts, completions)
    found_NH = np.zeros((len(pairs), reward.role.head.in_features))
    for number, rows in _with_another(reward, batches).items():
        found_NH[list(batches[number].places)] = rows
    return found_NH


def _with_another(reward: RewardModel, batches: list[FeatureBatch]) -> dict[int, Features]:
    threads = torch.get_num_threads()
    following = multiprocessing.get_context("spawn").Value("q", 0)
    with tempfile.TemporaryDirectory(prefix="assent-reward-") as folder:
        save_reward_model(reward, Path(folder) / "model")
        other = SecondProcess(_read_there, str(Path(folder) / "model"), reward.role.body.precision, batches, following)
        torch.set_num_threads(1)
        try:
            found = _read_some(reward.role, batches, following)
            return found | other.result()
        finally:
            torch.set_num_threads(threads)


def _read_there(folder: str, precision: Any, batches: list[FeatureBatch], following: Any) -> dict[int, Features]:
    machine = MachineOptions(device="cpu", precision=precision, threads=1)
    return _read_some(load_reward_model(folder, machine=machine, positive="0").role, batches, following)


def _read_some(role: ScalarRole, batches: list[FeatureBatch], following: Any) -> dict[int, Features]:
    """Take the next batch until none is left; `following` is its number, shared with the other process."""
    found: dict[int, Features] = {}
    while True:
        with following.get_lock():
            number = following.value
            following.value = number + 1
        if number >= len(batches):
            return found
        found[number] = read_features(role, batches[number])
