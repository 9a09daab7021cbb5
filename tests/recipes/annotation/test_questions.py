"""Questions from a pool: at random without a reward model, by its heads with one; a head alone as a training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_jobs import train_reward_model

from assent.algorithms.reward import RewardSettings
from assent.errors import ConfigError
from assent.recipes.annotation.questions import (
    AcquisitionSettings,
    Pool,
    Read,
    new_items,
    prompt_key,
    questions,
    questions_by_reading,
)
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.features import features_of
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import RewardModel, load_reward_model, new_reward_model, save_reward_model
from assent.recipes.training.prepare import train_reward_model_wise_ft
from assent.types import Comparison, Completion, Conversation, Rating

MACHINE = MachineOptions(device="cpu", threads=1)
COLOURS = ("red", "green", "blue", "black", "white", "grey", "pink", "brown", "yellow", "gold", "silver", "orange")
POOL = Pool(
    prompts=tuple(Conversation.of_user(f"is it {colour}?") for colour in COLOURS),
    completions=tuple(
        tuple(Completion(text=f"{word} {colour}") for word in ("yes", "no", "maybe", "it is")[: 2 + place % 3])
        for place, colour in enumerate(COLOURS)
    ),
    temperatures=tuple((1.0,) * (2 + place % 3) for place in range(len(COLOURS))),
)
JUDGED = [
    Comparison(
        prompt=Conversation.of_user(f"is it {colour}?"), chosen=Completion(text=f"yes, it is {colour}"),
        rejected=Completion(text="no"),
    )
    for colour in COLOURS
]  # fmt: skip
SETTINGS = AcquisitionSettings(heads=4, random_share=0.25)


@pytest.fixture(scope="module")
def reward() -> RewardModel:
    """A reward model on the embedded base."""
    return new_reward_model(str(shipped_base()), machine=MACHINE, seed=3)


def test_without_a_reward_model_every_question_is_of_the_random_arm() -> None:
    found = questions(POOL, SETTINGS, seed=1)
    assert set(found.serves) == {"random"} and sorted(found.order_N.tolist()) == list(range(len(COLOURS)))
    items = new_items(POOL, found, count=5, batch="first", model="m", sha256="")
    assert [item.serves for item in items] == ["random"] * 5
    assert items[0].key == f"first.{prompt_key(items[0].prompt)}"


def test_every_question_shows_two_completions_that_its_prompt_has(reward: RewardModel) -> None:
    for found in (
        questions(POOL, SETTINGS, seed=1),
        questions(POOL, SETTINGS, seed=1, reward=reward, comparisons=JUDGED),
    ):
        for row, (first, second) in enumerate(found.candidates_NS.tolist()):
            assert first != second and {first, second} <= set(range(len(POOL.completions[row])))


def test_questions_ask_what_their_own_features_say(reward: RewardModel) -> None:
    found = questions(POOL, SETTINGS, seed=5, reward=reward, comparisons=JUDGED)
    pairs = [(prompt, one) for prompt, texts in zip(POOL.prompts, POOL.completions, strict=True) for one in texts]
    read = Read(
        pool_ND=features_of(reward, pairs),
        better_PD=features_of(reward, [(one.prompt, one.chosen) for one in JUDGED]),
        worse_PD=features_of(reward, [(one.prompt, one.rejected) for one in JUDGED]),
        probability_P=np.ones(len(JUDGED)),
    )
    again = questions_by_reading(POOL, SETTINGS, read, seed=5)
    assert again.order_N.tolist() == found.order_N.tolist()
    np.testing.assert_allclose(again.value_N, found.value_N, atol=1e-5)


def test_a_pair_that_no_head_can_tell_apart_is_worth_nothing() -> None:
    """Two prompts; the candidates of the second have equal features."""
    pool = Pool(prompts=POOL.prompts[:2], completions=POOL.completions[:2], temperatures=POOL.temperatures[:2])
    feature_ND = np.array([[0.0, 1.0], [3.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    read = Read(
        pool_ND=feature_ND, better_PD=np.array([[1.0, 0.0]]), worse_PD=np.array([[0.0, 1.0]]),
        probability_P=np.ones(1),
    )  # fmt: skip
    found = questions_by_reading(pool, replace_settings(random_share=0.0), read, seed=0)
    assert found.value_N[1] == 0 < found.value_N[0] and found.order_N.tolist() == [0, 1]


def replace_settings(**changes: object) -> AcquisitionSettings:
    return AcquisitionSettings.model_validate({**SETTINGS.model_dump(), **changes})


def test_a_head_alone_learns_the_judgements_and_leaves_the_trunk_as_it_was(tmp_path: Path) -> None:
    reward = new_reward_model(str(shipped_base()), machine=MACHINE, seed=3)
    before = {name: value.clone() for name, value in reward.role.body.model.state_dict().items()}
    trained = train_reward_model(reward, JUDGED, RewardSettings(train="head"), seed=0)
    assert trained[-1]["accuracy"] == 1.0 and trained[-1]["loss"] < 0.6
    after = reward.role.body.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["score.weight"]
    save_reward_model(reward, tmp_path / "model")
    loaded = load_reward_model(str(tmp_path / "model"), machine=MACHINE)
    for one in JUDGED:
        first, second = loaded.scorer.score([one.prompt] * 2, [one.chosen, one.rejected])
        assert first > second


def test_a_head_alone_does_not_depend_on_the_seed_or_the_order_of_the_judgements() -> None:
    weights = []
    for seed, judged in ((1, JUDGED), (2, JUDGED[::-1])):
        reward = new_reward_model(str(shipped_base()), machine=MACHINE, seed=seed)
        train_reward_model(reward, judged, RewardSettings(train="head"), seed=seed)
        weights.append(reward.role.head.weight.detach())
    torch.testing.assert_close(*weights, atol=1e-4, rtol=1e-3)


def test_wise_ft_is_the_mean_of_the_weights_before_and_after() -> None:
    def fitted() -> RewardModel:
        reward = new_reward_model(str(shipped_base()), machine=MACHINE, seed=3)
        train_reward_model(reward, JUDGED, RewardSettings(train="head"), seed=0)
        return reward

    settings = RewardSettings(epochs=2, batch_size=4, learning_rate=1e-3)
    start, whole, half = fitted(), fitted(), fitted()
    train_reward_model(whole, JUDGED, settings, seed=0)
    train_reward_model_wise_ft(half, JUDGED, settings, seed=0)
    moved = 0
    for name, weight in half.role.parameters().items():
        ends = start.role.parameters()[name], whole.role.parameters()[name]
        torch.testing.assert_close(weight, (ends[0] + ends[1]) / 2, atol=1e-6, rtol=1e-5)
        moved += not torch.equal(*ends)
    assert moved > 10


def test_what_a_head_alone_cannot_learn_from_is_refused(reward: RewardModel) -> None:
    rated = [Rating(prompt=JUDGED[0].prompt, completion=JUDGED[0].chosen, score=1.0)]
    with pytest.raises(ConfigError, match="comparisons or rankings"):
        train_reward_model(reward, rated, RewardSettings(train="head"), seed=0)
    with pytest.raises(ConfigError, match="without margins"):
        train_reward_model(reward, [replace(JUDGED[0], margin=1.0)], RewardSettings(train="head"), seed=0)
    with pytest.raises(ConfigError, match="as one number"):
        train_reward_model(reward, JUDGED, RewardSettings(train="head", centre=0.1), seed=0)
