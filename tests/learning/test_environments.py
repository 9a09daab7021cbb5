"""Policies learn from episodes of several turns whose best reward is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from training_jobs import CPU, train_sft

from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.on_policy.reward_signal import EnvironmentReward
from assent.algorithms.sft import SFTSettings
from assent.environments.acting import Actor, InEnvironment
from assent.model.roles import LanguageRole
from assent.ports.environment import StepResult
from assent.ports.sampling import SamplingParams
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.types import Completion, Conversation, Demonstration, Message, Role, StopReason

WORDS = ("red", "blue", "yes", "no")
START = Conversation.of_user("one")


@dataclass
class Password:
    """Two words in order, each asked for in a turn of its own: 1 for both, half for one of them."""

    words: tuple[str, str]
    prompts: tuple[Conversation, ...] = (START,)

    def reset(self, prompt: Conversation, *, seed: int) -> Asking:
        return Asking(prompt=prompt, words=self.words)


@dataclass
class Asking:
    prompt: Conversation
    words: tuple[str, str]
    turn: int = 0
    right: int = 0

    def step(self, completion: Completion) -> StepResult:
        if completion.stop is not StopReason.END:
            return StepResult(stop=StopReason.END, reward=0.0)
        self.right += completion.text == self.words[self.turn]
        self.turn += 1
        if self.turn == 2:
            return StepResult(stop=StopReason.END, reward=self.right / 2)
        return StepResult(messages=(Message(role=Role.USER, content="two"),))


@pytest.fixture(scope="module")
def talker(folders: dict[str, Path]) -> Callable[[], LanguageModel]:
    """A model that answers both questions with any of the words."""
    made = load_language_model(str(folders["llama"]), machine=CPU)
    second = Message(role=Role.USER, content="two")
    talks = [
        Conversation(messages=(*START.then(a).messages, second)).then(b) for a in WORDS for b in WORDS for _ in "123"
    ]
    settings = SFTSettings(epochs=12, batch_size=16, learning_rate=5e-3)
    train_sft(made, [Demonstration(conversation=talk) for talk in talks], settings, seed=0)
    return lambda: LanguageModel(
        role=LanguageRole(copy.deepcopy(made.role.body)), template=made.template, path=made.path
    )


SETTINGS: dict[str, dict[str, object]] = {
    "ppo": {"batch_size": 64, "critic": "shared"}, "grpo": {"batch_size": 8}, "rloo": {"batch_size": 8},
    "reinforce_pp": {"batch_size": 64},
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize(
    "name", ["ppo", *(pytest.param(one, marks=pytest.mark.slow) for one in SETTINGS if one != "ppo")]
)
def test_a_policy_learns_what_to_say_in_each_turn(name: str, seed: int, talker: Callable[[], LanguageModel]) -> None:
    model, words = talker(), (WORDS[seed % 4], WORDS[(seed + 1) % 4])
    settings = load_named(METHODS[name].settings)(
        iterations=30, epochs=1, mini_batches=1, learning_rate=2e-3, max_tokens=5, kl_coef=0.02, schedule="constant",
        normalise_reward=False, normalise_prompts=8, **SETTINGS[name],
    )  # fmt: skip
    asked = InEnvironment(prompts=(START,), environment=Password(words))
    task = prepare_on_policy(
        load_named(METHODS[name].algorithm), model, asked, settings, seed=seed, reward=EnvironmentReward()
    )
    rows = task.run()
    assert rows[0]["reward"] < 0.6 and 1.0 < rows[0]["turns"] <= 2.0
    actor = Actor(sampler=model.sampler, sampling=SamplingParams(max_tokens=5), environment=Password(words))
    played = actor.play([START] * 64, seed=9)
    assert sum(one.completion.reward or 0.0 for one in played) / 64 > 0.9


def test_learning_reads_turns_as_the_sampler_wrote_them(talker: Callable[[], LanguageModel]) -> None:
    """The log-probabilities of all turns, read in one pass, are those that each token was drawn with."""
    settings = load_named(METHODS["ppo"].settings)(
        iterations=1, batch_size=24, max_tokens=5, normalise_prompts=4, normalise_reward=False
    )
    model = talker()
    asked = InEnvironment(prompts=(START,), environment=Password(("red", "blue")))
    (row,) = prepare_on_policy(
        load_named(METHODS["ppo"].algorithm), model, asked, settings, seed=1, reward=EnvironmentReward()
    ).run()
    assert row["turns"] > 1.5 and row["sampler_drift"] < 1e-4 and row["kl"] == pytest.approx(0.0, abs=1e-6)
    assert all(bool(torch.isfinite(weight).all()) for weight in model.role.parameters().values())
