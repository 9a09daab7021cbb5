"""Features of completions: the same with trees, without, and with another process."""

from __future__ import annotations

import numpy as np
import pytest

from assent.model.flat import flatten
from assent.recipes.demo.command import shipped_base
from assent.recipes.run import features
from assent.recipes.run.features import features_of
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import RewardModel, new_reward_model
from assent.types import Completion, Conversation, StopReason

MACHINE = MachineOptions(device="cpu", threads=1)
WORDS = ("red", "red is a colour", "red is", "yes", "no, it is blue", "it is", "I do not know")
PAIRS = [
    (Conversation.of_user(asked), Completion(text=word, stop=stop))
    for word in WORDS
    for asked in ("what is red?", "hello", "is it red?")
    for stop in (StopReason.END, StopReason.LENGTH)
]


@pytest.fixture(scope="module")
def reward() -> RewardModel:
    """A reward model on the embedded base."""
    return new_reward_model(str(shipped_base()), machine=MACHINE, seed=3)


def one_by_one(reward: RewardModel) -> np.ndarray:
    rows = [flatten([reward.template.encode_completion(*pair).ids]) for pair in PAIRS]
    return np.concatenate([reward.role.features(row).detach().numpy() for row in rows])


def test_features_are_what_the_head_reads_of_each_completion_alone(reward: RewardModel) -> None:
    np.testing.assert_allclose(features_of(reward, PAIRS), one_by_one(reward), atol=5e-5)


def test_the_head_on_the_features_is_the_score(reward: RewardModel) -> None:
    weight = reward.role.head.weight.detach().numpy()[0]
    scores = reward.scorer.score([prompt for prompt, _ in PAIRS], [completion for _, completion in PAIRS])
    np.testing.assert_allclose(features_of(reward, PAIRS) @ weight, scores, atol=5e-5)


@pytest.mark.slow
def test_another_process_reads_the_same_numbers(reward: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = features_of(reward, PAIRS)
    monkeypatch.setattr(features, "WORTH_ANOTHER_PROCESS", 1)
    monkeypatch.setattr(features, "cores", lambda: 2)
    monkeypatch.setattr("assent.recipes.run.second_process.cores", lambda: 2)
    monkeypatch.setattr("assent.backends.local.features.MOST_TOKENS", 60)
    np.testing.assert_allclose(features_of(reward, PAIRS), alone, atol=5e-5)
