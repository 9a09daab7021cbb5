"""A cost beside the reward: where it goes, what it never touches, and mistakes in giving it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from training_jobs import CPU, PROMPTS

from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.on_policy.reward_signal import RewardScale, RewardSum
from assent.errors import ConfigError
from assent.metrics import Metrics
from assent.recipes.run.models import load_language_model, new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.run.rewards import weighted
from assent.recipes.run.roles import critic_starts
from assent.recipes.training.prepare_on_policy import prepare_on_policy

SMALL = {"iterations": 3, "batch_size": 4, "max_tokens": 5, "learning_rate": 1e-3, "normalise_prompts": 8}
LENGTH = FunctionScorer(lambda prompts, texts: [float(len(text)) for text in texts], "length")
SPACES = FunctionScorer(lambda prompts, texts: [float(text.count(" ")) for text in texts], "spaces")


def trained(folders: dict[str, Path], name: str, reward: RewardSum, **settings: object) -> list[Metrics]:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    chosen = load_named(METHODS[name].settings)(**{**SMALL, **settings})
    return prepare_on_policy(load_named(METHODS[name].algorithm), model, PROMPTS, chosen, seed=2, reward=reward).run()


def test_rows_tell_the_raw_cost_and_the_multiplier_that_follows_from_it(folders: dict[str, Path]) -> None:
    reward = weighted([("length", LENGTH)], (), cost=SPACES)
    rows = trained(folders, "ppo_lagrangian", reward, cost_budget=0.3, multiplier=0.8, multiplier_learning_rate=0.4)
    log_value = math.log(0.8)
    for row in rows:
        log_value += 0.4 * math.exp(log_value) * (row["cost"] - 0.3)
        assert row["multiplier"] == pytest.approx(math.exp(log_value))
        assert "cost_value_loss" in row and "value_loss" in row
        assert not any(column.startswith("reward/") for column in row), "the cost is no part of the reward"
    assert {row["cost"] for row in rows} != {0.0}


def test_a_budget_that_never_binds_leaves_the_multiplier_to_fall(folders: dict[str, Path]) -> None:
    rows = trained(folders, "ppo_lagrangian", weighted([("length", LENGTH)], (), cost=SPACES), cost_budget=100.0)
    assert rows[0]["multiplier"] > rows[-1]["multiplier"] > 0


def test_a_cost_needs_a_budget_and_a_budget_a_cost(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no cost was given"):
        trained(folders, "ppo_lagrangian", weighted([("length", LENGTH)], ()))
    with pytest.raises(ConfigError, match="has no budget"):
        trained(folders, "ppo", weighted([("length", LENGTH)], (), cost=SPACES))


def test_the_cost_counts_nothing_in_the_reward_and_has_a_name_of_its_own() -> None:
    reward = weighted([("cost", LENGTH)], (2.0,), cost=SPACES)
    assert [one.name for one in reward.rewards] == ["cost", "cost-2"] and reward.cost == "cost-2"
    assert reward.total({"cost": [1.0, 2.0], "cost-2": [5.0, 6.0]}) == [2.0, 4.0]


def test_each_critic_starts_from_its_own_model(folders: dict[str, Path]) -> None:
    helpful, harmful = (new_reward_model(str(folders["llama"]), machine=CPU, seed=seed).scorer for seed in (1, 2))
    scale = RewardScale(mean=3.0, spread=2.0)
    value, cost = critic_starts(weighted([("helpful", helpful)], (0.5,), cost=harmful), scale)
    assert value.network is helpful and (value.gain, value.offset) == (0.25, -1.5)
    assert cost.network is harmful and (cost.gain, cost.offset) == (1.0, 0.0)
    several = weighted([("helpful", helpful), ("length", LENGTH)], (), cost=harmful)
    assert critic_starts(several, scale)[0].network is None and critic_starts(several, scale)[1].network is harmful
    alone = critic_starts(helpful, scale)
    assert alone[0].network is helpful and alone[1].network is None
    assert not torch.equal(helpful.role.head.weight, harmful.role.head.weight)
