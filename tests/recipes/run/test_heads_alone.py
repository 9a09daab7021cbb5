"""A reward model of which only the head was trained is a small head on a base that PPO holds once for all roles."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
import transformers
from training_jobs import CPU, PPO, PROMPTS, comparisons, train_ppo, train_reward_model

from assent.algorithms.ppo import PPOSettings
from assent.algorithms.reward import RewardSettings
from assent.backends.local.learner import LocalLearner
from assent.recipes.run.machine import LoraOptions
from assent.recipes.run.models import (
    RewardModel,
    head_alone,
    load_language_model,
    load_reward_for,
    load_reward_model,
    new_reward_model,
    save_reward_model,
)
from assent.recipes.run.roles import critic_of, reference_of
from assent.types import Completion

LORA = LoraOptions(rank=4, alpha=8.0)
ANSWERS = [Completion(text=text) for text in ("yes", "no", "blue green", "the sun", "maybe", "four", "one", "red")]


@pytest.fixture(scope="module")
def head(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a head that was fitted on comparisons."""
    reward = head_alone(new_reward_model(str(folders["llama"]), machine=CPU, seed=1))
    train_reward_model(reward, comparisons(), RewardSettings(train="head"), seed=1)
    folder = tmp_path_factory.mktemp("head") / "model"
    save_reward_model(reward, folder)
    assert load_reward_model(str(folder), machine=CPU).scorer.score(PROMPTS, ANSWERS) == scores(reward)
    return folder


def scores(reward: RewardModel) -> list[float]:
    return reward.scorer.score(PROMPTS, ANSWERS)


def test_the_folder_is_small_and_plain_peft_says_the_same(head: Path) -> None:
    weights = head / "adapter_model.safetensors"
    assert weights.stat().st_size < 1000 and not (head / "model.safetensors").exists()
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(head, num_labels=1).eval()
    reward = load_reward_model(str(head), machine=CPU)
    for prompt, answer, score in zip(PROMPTS, ANSWERS, scores(reward), strict=True):
        ids = reward.template.encode_completion(prompt, answer).ids
        with torch.no_grad():
            assert model(torch.tensor([ids])).logits.item() == pytest.approx(score, abs=1e-5)


def test_a_fitted_head_is_all_that_it_trains(head: Path) -> None:
    role = load_reward_model(str(head), machine=CPU).role
    assert role.frozen and [*role.parameters()] == ["head.weight"]


def test_policy_reference_critic_and_reward_stand_on_one_base(folders: dict[str, Path], head: Path) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA)
    reward = load_reward_for(model, str(head), machine=CPU)
    critic = critic_of(model, reward, name="critic", shared_trunk=False, seed=0, gain=2.0, offset=1.0)
    assert model.role.body is reward.role.body is reference_of(model).body is critic.body
    assert critic.adapter == "critic" and scores(reward) == scores(load_reward_model(str(head), machine=CPU))
    torch.testing.assert_close(critic.head.weight, reward.role.head.weight * 2.0)
    policy, value = (sum(p.numel() for p in role.parameters().values()) for role in (model.role, critic))
    assert value == policy + model.role.body.hidden_size + 1, "an adapter like the policy's, and a head"


@pytest.mark.parametrize("shared", [True, False])
def test_ppo_with_an_adapter_never_trains_a_second_model(
    shared: bool, folders: dict[str, Path], head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also against a reward model with a body of its own: its critic is an adapter there, and the reward stays."""
    model = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA)
    reward = load_reward_for(model, str(head), machine=CPU) if shared else None
    reward = reward or new_reward_model(str(folders["llama"]), machine=CPU, seed=4)
    before, learners = scores(reward), []
    publish = LocalLearner.publish
    monkeypatch.setattr(LocalLearner, "publish", lambda self: learners.append(self) or publish(self))
    rows = train_ppo(model, PROMPTS, PPOSettings(**PPO), seed=1, reward=reward)
    names = [name for name in learners[0].parameters if "lora_" not in name]
    assert names == ["critics.value.head.weight", "critics.value.head.bias"]
    assert scores(reward) == before and len(rows) == 3


def test_a_head_alone_can_be_trained_on_as_a_whole_model_or_with_an_adapter(head: Path, tmp_path: Path) -> None:
    before = scores(load_reward_model(str(head), machine=CPU))
    for name, lora in (("all", None), ("lora", LORA)):
        reward = new_reward_model(str(head), machine=CPU, seed=9, lora=lora)
        assert reward.goes_on and scores(reward) == pytest.approx(before, abs=1e-6)
        settings = RewardSettings(epochs=1, batch_size=4, learning_rate=1e-3)
        train_reward_model(reward, comparisons(), settings, seed=1)
        assert scores(reward) != pytest.approx(before, abs=1e-4)
        save_reward_model(reward, tmp_path / name)
        assert scores(load_reward_model(str(tmp_path / name), machine=CPU)) == pytest.approx(scores(reward), abs=1e-6)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "all")
    assert plain.config.num_labels == 1
