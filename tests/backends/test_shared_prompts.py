"""The prompt that the answers of a pair or ranking share is read once, with the gradients of reading it twice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from training_jobs import CPU, comparisons

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.backends.local import layout
from assent.backends.local.learner import LocalLearner
from assent.data.order import token_budget_batches
from assent.interrupts import StopRequest
from assent.model.flat import flatten
from assent.model.prefix_trees import flatten_trees, tree_of
from assent.ports.learning import LearnerSettings, Need, Outputs, Roles
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model, new_reward_model
from assent.recipes.run.progress import Display
from assent.recipes.training.head_training import read_judged
from assent.types import Comparison, Completion, Conversation, Ranking

LONG = Conversation.of_user("one two three what is red ? the sun maybe yes no blue green four one two")


def judged() -> list[Comparison | Ranking]:
    """Pairs and a ranking; most share a long prompt, in one an answer begins as the other does."""
    texts = ["yes", "yes no", "no four", "the sun"]
    pairs = [
        Comparison(prompt=LONG, chosen=Completion(text=one), rejected=Completion(text=other))
        for one, other in pairwise(texts)
    ]
    completions = tuple(Completion(text=text) for text in texts)
    return [*pairs, Ranking(prompt=LONG, completions=completions, ranks=(2, 1, 1, 3))]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens of every batch that is read."""
    tokens: list[int] = []
    for name, make in (("flatten", flatten), ("flatten_trees", flatten_trees)):

        def counting(*given: object, make: Callable = make) -> object:
            batch = make(*given)
            tokens.append(len(batch.ids_N))
            return batch

        monkeypatch.setattr(layout, name, counting)
    return tokens


def gradients(learner: LocalLearner) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in learner.parameters.items() if p.grad is not None}


def reward_step(folders: dict[str, Path], name: str) -> tuple[float, dict[str, torch.Tensor]]:
    reward = new_reward_model(str(folders[name]), machine=CPU, seed=3)
    items = REWARD_MODEL.encode(judged(), reward.template, max_length=64).items
    learner = LocalLearner(Roles(scalar=reward.role), LearnerSettings(micro_batch_tokens=120))
    objective = REWARD_MODEL.objective(items, RewardSettings())
    tally, _ = learner._accumulate(items, objective.need, objective.loss, objective.count(items))
    return tally.means()["loss"], gradients(learner)


def dpo_step(folders: dict[str, Path], name: str) -> tuple[float, dict[str, torch.Tensor]]:
    model = load_language_model(str(folders[name]), machine=CPU)
    pairs = [one for one in judged() if isinstance(one, Comparison)]
    learner = LocalLearner(Roles(policy=model.role), LearnerSettings(micro_batch_tokens=120))
    items = DPO.reference(DPO.encode(pairs, model.template, max_length=64).items, learner)
    with torch.no_grad():
        for place, parameter in enumerate(learner.parameters.values()):
            parameter.mul_(1 + 0.01 * (place % 3))
    objective = DPO.objective(items, DPOSettings(beta=0.5))
    tally, _ = learner._accumulate(items, objective.need, objective.loss, objective.count(items))
    return tally.means()["loss"], gradients(learner)


@pytest.mark.parametrize("step", [reward_step, dpo_step])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gpt2"])
def test_shared_prompts_have_the_gradients_of_prompts_read_twice(
    step: Callable, name: str, folders: dict[str, Path], counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, found = step(folders, name)
    once = sum(counted)
    counted.clear()
    monkeypatch.setattr(layout, "WORTH_FROM", 1.0)
    true_loss, true = step(folders, name)
    assert once < 0.75 * sum(counted), "far fewer tokens are read"
    assert loss == pytest.approx(true_loss, abs=1e-5)
    assert found.keys() == true.keys()
    for key, gradient in true.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(found[key], gradient, atol=max(1e-6, 2e-4 * scale), rtol=0)


def test_a_batch_of_trees_predicts_what_the_sequences_alone_predict(folders: dict[str, Path]) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    items = DPO.encode([one for one in judged() if isinstance(one, Comparison)], model.template, max_length=64).items
    sequences = [sequence for item in items for sequence in item.sequences]
    masks = [sequence.assistant_mask for sequence in sequences]
    trees = flatten_trees([tree_of([one.ids for one in item.sequences]) for item in items], masks)
    flat = flatten([one.ids for one in sequences], masks)
    assert trees.predicted == flat.predicted and torch.equal(trees.target_M, flat.target_M)
    assert torch.equal(trees.ids_N[trees.predict_M], flat.ids_N[flat.predict_M])
    learner = LocalLearner(Roles(policy=model.role))
    for item, outputs in zip(items, learner.score(items, Need()), strict=True):
        alone = Outputs.joined(learner.score([_Alone(one) for one in item.sequences], Need()))
        torch.testing.assert_close(outputs["logp"], alone["logp"], atol=1e-5, rtol=1e-5)


class _Alone:
    def __init__(self, sequence: object) -> None:
        self.sequences = (sequence,)


def test_the_fit_of_a_head_reads_shared_prompts_once(folders: dict[str, Path]) -> None:
    reward = new_reward_model(str(folders["qwen3"]), machine=CPU, seed=3)
    items = REWARD_MODEL.encode([*judged(), *comparisons()], reward.template, max_length=64).items
    feature_ND = read_judged(reward.role, items, 4096, Display(quiet=True), StopRequest())
    sequences = [sequence.ids for item in items for sequence in item.sequences]
    with torch.no_grad():
        alone_ND = torch.cat([reward.role.features(flatten([ids])) for ids in sequences]).numpy()
    np.testing.assert_allclose(feature_ND, alone_ND, atol=1e-5)


def test_dropout_and_encoders_read_every_sequence_alone(folders: dict[str, Path]) -> None:
    for name, settings in (("bert", LearnerSettings()), ("llama", LearnerSettings(dropout=True))):
        reward = new_reward_model(str(folders[name]), machine=CPU, seed=3)
        items = REWARD_MODEL.encode(judged(), reward.template, max_length=64).items
        laid = LocalLearner(Roles(scalar=reward.role), settings)._blocks(items, Need(logp=False, logits=True), 8192)
        assert all(one.tree is None for one in laid)


def test_micro_batches_count_a_shared_prompt_once(folders: dict[str, Path]) -> None:
    reward = new_reward_model(str(folders["llama"]), machine=CPU, seed=3)
    items = REWARD_MODEL.encode(judged(), reward.template, max_length=64).items
    laid = LocalLearner(Roles(scalar=reward.role))._blocks(items, Need(logp=False, logits=True), 8192)
    whole = [sum(map(len, item.sequences)) for item in items]
    parts = partial(token_budget_batches, max_tokens=120)
    assert len([*parts([len(one) for one in laid])]) < len([*parts(whole)])


def test_in_bf16_a_policy_starts_as_its_own_reference(folders: dict[str, Path]) -> None:
    """Rounding of a tree would look like a change of the policy."""
    machine = MachineOptions(device="cpu", precision="bf16")
    model = load_language_model(str(folders["llama"]), machine=machine)
    pairs = [one for one in judged() if isinstance(one, Comparison)]
    learner = LocalLearner(Roles(policy=model.role))
    items = DPO.reference(DPO.encode(pairs, model.template, max_length=64).items, learner)
    objective = DPO.objective(items, DPOSettings())
    tally, _ = learner._accumulate(items, objective.need, objective.loss, objective.count(items))
    assert tally.means()["margin"] == pytest.approx(0.0, abs=1e-6)
