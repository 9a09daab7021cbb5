"""What every Learner promises: exact restore, micro-batches that add up, bad numbers that change nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import VOCABULARY, body_of, causal_lm
from torch import Tensor
from torch.testing import assert_close

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.pretrain import PretrainSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.backends.local.learner import LocalLearner, OptimizerSettings
from assent.backends.local.sampler import LocalSampler
from assent.model.adapters import LoraSettings
from assent.model.body import Body
from assent.model.checkpoints import CheckpointStore
from assent.model.flat import FlatBatch, flatten
from assent.model.roles import LanguageRole, ScalarRole, fresh_head
from assent.model.state import pack, unpack
from assent.ports.learning import Learner, LossResult, Need, Outputs
from assent.ports.sampling import SamplingParams
from assent.recipes.training.prepare import optimizer_of
from assent.text.template import ChatTemplate
from assent.types import Conversation

VALUES = Need(value=True)
SCALAR = Need(logp=False, logits=True)
OPTIMIZER = OptimizerSettings(weight_decay=0.01)


def full_weights() -> LocalLearner:
    return LocalLearner(policy=LanguageRole(body_of(causal_lm("llama"))), optimizer=OPTIMIZER)


def with_dropout() -> LocalLearner:
    return LocalLearner(policy=LanguageRole(body_of(causal_lm("gpt2"))), dropout=True, optimizer=OPTIMIZER, seed=3)


def low_rank() -> LocalLearner:
    body = body_of(causal_lm("qwen3"))
    body.add_adapter("policy", LoraSettings(rank=4))
    return LocalLearner(policy=LanguageRole(body, "policy"), optimizer=OPTIMIZER)


def critic(body: Body, adapter: str | None = None) -> ScalarRole:
    return ScalarRole(body, fresh_head(body.hidden_size, seed=0, name="critic"), adapter)


def shared_trunk() -> LocalLearner:
    body = body_of(causal_lm("llama"))
    return LocalLearner(policy=LanguageRole(body), critic=critic(body), shared_trunk=True, optimizer=OPTIMIZER)


def separate_critic() -> LocalLearner:
    body, other = body_of(causal_lm("llama")), body_of(causal_lm("qwen2"))
    return LocalLearner(policy=LanguageRole(body), critic=critic(other), optimizer=OPTIMIZER)


def adapters_on_one_base() -> LocalLearner:
    body = body_of(causal_lm("llama"))
    for name in ("policy", "critic"):
        body.add_adapter(name, LoraSettings(rank=4))
    return LocalLearner(policy=LanguageRole(body, "policy"), critic=critic(body, "critic"), optimizer=OPTIMIZER)


def scalar() -> LocalLearner:
    body = body_of(causal_lm("neox"))
    return LocalLearner(scalar=critic(body), optimizer=OPTIMIZER)


LEARNERS: dict[str, tuple[Callable[[], LocalLearner], Need]] = {
    "full weights": (full_weights, Need()),
    "dropout": (with_dropout, Need()),
    "adapter": (low_rank, Need(entropy=True)),
    "shared trunk": (shared_trunk, VALUES),
    "separate critic": (separate_critic, VALUES),
    "adapters on one base": (adapters_on_one_base, VALUES),
    "scalar": (scalar, SCALAR),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)
LENGTHS = (9, 4, 4, 6, 3, 8)


def rows(seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]


def columns(outputs: Outputs) -> list[Tensor]:
    found = (outputs.logp_M, outputs.entropy_M, outputs.value_M, outputs.logits_BC)
    return [column for column in found if column is not None]


def plain_loss(outputs: Outputs) -> LossResult:
    """A sum over all items, so that parts add up to the whole."""
    loss = sum(((column - 0.3).square().sum() for column in columns(outputs)), torch.zeros(()))
    return LossResult(loss=loss * 0.01, sums={"loss": loss.item()}, count=1.0)


def broken_loss(outputs: Outputs) -> LossResult:
    return LossResult(loss=plain_loss(outputs).loss * float("nan"), sums={}, count=1.0)


def steep_loss(outputs: Outputs) -> LossResult:
    """Finite, but its gradient is not: the root of zero."""
    return LossResult(loss=(columns(outputs)[0] * 0.0).square().sum().sqrt(), sums={}, count=1.0)


def train(learner: Learner, need: Need, *, steps: int = 1, seed: int = 0) -> None:
    for step in range(steps):
        learner.forward_backward(flatten(rows(seed + step)), need, plain_loss)
        assert not learner.step(1e-2).skipped


def tensors_of(tree: Any) -> dict[str, Tensor]:
    return pack(tree).tensors


def same(left: Any, right: Any) -> bool:
    a, b = pack(left), pack(right)
    return a.values == b.values and all(torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors | b.tensors)


def snapshot(learner: Learner) -> Any:
    return copy.deepcopy(learner.state())


@every_learner
def test_a_restored_learner_is_the_saved_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    make, need = LEARNERS[name]
    learner = make()
    train(learner, need, steps=2)
    CheckpointStore(tmp_path).save(2, pack({"learner": learner.state()}))
    saved = snapshot(learner)
    train(learner, need, steps=2, seed=7)
    later = snapshot(learner)
    assert not same(saved["weights"], later["weights"])
    other = make()
    train(other, need, seed=40)
    torch.manual_seed(12)
    restored = CheckpointStore(tmp_path).newest()
    assert restored is not None
    other.restore(unpack(restored.state)["learner"])
    assert same(other.state(), saved)
    train(other, need, steps=2, seed=7)
    assert same(other.state(), later)


@every_learner
def test_a_fresh_state_can_be_restored_over_a_trained_one(name: str) -> None:
    make, need = LEARNERS[name]
    learner = make()
    fresh = snapshot(learner)
    train(learner, need, steps=2)
    learner.restore(fresh)
    assert same(learner.state(), fresh)


@every_learner
@pytest.mark.parametrize("parts", [[6], [1] * 6, [2, 1, 3]])
def test_micro_batches_add_up_to_the_whole(name: str, parts: list[int]) -> None:
    make, need = LEARNERS[name]
    if name == "dropout":
        make = lambda: LocalLearner(policy=LanguageRole(body_of(causal_lm("gpt2"))))  # noqa: E731
    moments = []
    for sizes in ([6], parts):
        learner, left = make(), rows()
        for size in sizes:
            learner.forward_backward(flatten(left[:size]), need, plain_loss)
            left = left[size:]
        learner.step(0.0)
        moments.append(tensors_of({"moments": learner.state()["moments"]}))
    assert moments[0].keys() == moments[1].keys()
    for key, whole in moments[0].items():
        assert_close(moments[1][key], whole, atol=1e-6, rtol=2e-3, msg=key)


@every_learner
@pytest.mark.parametrize("bad", [broken_loss, steep_loss])
def test_a_bad_number_changes_nothing_and_is_forgotten(name: str, bad: Callable[[Outputs], LossResult]) -> None:
    make, need = LEARNERS[name]
    learner, untouched = make(), make()
    for one in (learner, untouched):
        train(one, need)
    before = snapshot(learner)
    learner.forward_backward(flatten(rows(1)), need, plain_loss)
    learner.forward_backward(flatten(rows(2)), need, bad)
    learner.forward_backward(flatten(rows(3)), need, plain_loss)
    assert learner.step(1e-2).skipped
    after = snapshot(learner)
    assert same(after["weights"], before["weights"]) and same(after["moments"], before["moments"])
    if name != "dropout":  # there the passes are counted
        for one in (learner, untouched):
            train(one, need, seed=9)
        assert same(learner.state()["weights"], untouched.state()["weights"])


@every_learner
def test_scoring_changes_nothing_and_says_what_training_sees(name: str) -> None:
    make, need = LEARNERS[name]
    learner = make()
    batch = flatten(rows())
    before = snapshot(learner)
    first, second = columns(learner.score(batch, need)), columns(learner.score(batch, need))
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(first, second, strict=True))
    assert same(learner.state(), before)
    seen: list[Tensor] = []

    def watching(outputs: Outputs) -> LossResult:
        seen.extend(column.detach() for column in columns(outputs))
        return plain_loss(outputs)

    learner.forward_backward(batch, need, watching)
    equal = [torch.allclose(a, b, atol=1e-5) for a, b in zip(first, seen, strict=True)]
    assert all(equal) if name != "dropout" else not any(equal)


@every_learner
def test_only_the_finite_gradient_norm_is_clipped_and_reported(name: str) -> None:
    make, need = LEARNERS[name]
    learner = make()
    learner.forward_backward(flatten(rows()), need, plain_loss)
    report = learner.step(1e-3)
    assert report.gradient_norm > 0 and not report.skipped
    total = sum(
        float(moments["exp_avg"].square().sum()) for moments in learner.state()["moments"].values() if moments
    ) ** 0.5 / (1 - OPTIMIZER.beta1)
    assert total == pytest.approx(min(report.gradient_norm, OPTIMIZER.max_gradient_norm), rel=1e-3)


@pytest.mark.parametrize("name", ["full weights", "adapter"])
def test_a_sampler_sees_the_weights_that_were_published(name: str, template: ChatTemplate) -> None:
    make, _ = LEARNERS[name]
    learner = make()
    assert learner.policy is not None
    sampler = LocalSampler(learner.policy, template)
    prompts = [Conversation.of_user("red"), Conversation.of_user("one two")]
    before = sampler.sample(prompts, sampling=SamplingParams(max_tokens=6), seed=1)
    train(learner, Need(), steps=2)
    learner.publish()
    turns = sampler.sample(prompts, sampling=SamplingParams(max_tokens=6), seed=1)
    assert [turn.logps for turn in turns] != [turn.logps for turn in before]
    batch: FlatBatch = flatten(
        [turn.prompt_ids + turn.completion_ids for turn in turns],
        [[False] * len(turn.prompt_ids) + [True] * len(turn.completion_ids) for turn in turns],
    )
    logp_M = learner.score(batch, Need()).logp_M
    assert logp_M is not None
    assert_close(torch.tensor([logp for turn in turns for logp in turn.logps]), logp_M, atol=1e-5, rtol=1e-4)


def test_with_hidden_states_at_hand_the_policy_is_not_read_and_says_the_same() -> None:
    body = body_of(causal_lm("llama"))
    learner = LocalLearner(policy=LanguageRole(body), reference=LanguageRole(body_of(causal_lm("qwen2"))))
    need, batch, passes = Need(kl=True, entropy=True), flatten(rows()), []
    read = learner.score(batch, need)
    with torch.no_grad():
        hidden_MH = LanguageRole(body).hidden(batch)
    body.trunk.register_forward_hook(lambda *_: passes.append(1))
    told = learner.score(batch, need, hidden_MH)
    assert not passes
    assert all(torch.equal(a, b) for a, b in zip(columns(read), columns(told), strict=True))


def test_the_kl_to_the_reference_is_zero_at_the_start_and_never_negative() -> None:
    body, still = body_of(causal_lm("llama")), body_of(causal_lm("llama"))
    learner = LocalLearner(policy=LanguageRole(body), reference=LanguageRole(still))
    need = Need(kl=True, reference_logp=True, entropy=True)
    first = learner.score(flatten(rows()), need)
    assert first.kl_M is not None and first.reference_logp_M is not None and first.logp_M is not None
    assert first.kl_M.abs().max() < 1e-6
    assert_close(first.reference_logp_M, first.logp_M)
    train(learner, Need(), steps=3)
    later = learner.score(flatten(rows()), need)
    assert later.kl_M is not None and later.reference_logp_M is not None
    assert later.kl_M.min() >= 0.0 and later.kl_M.mean() > 1e-4
    assert_close(later.reference_logp_M, first.reference_logp_M)
    alone = learner.score(flatten(rows()), Need(reference_logp=True))
    assert alone.reference_logp_M is not None
    assert_close(alone.reference_logp_M, first.reference_logp_M)


def test_the_betas_of_every_method_are_torchs_for_its_steps() -> None:
    """Three steps of the settings' optimiser and of torch.optim.AdamW on the same gradients end at the same weights."""
    for settings in (
        SFTSettings(adam_beta1=0.8, adam_beta2=0.7, weight_decay=0.1),
        RewardSettings(adam_beta1=0.8, adam_beta2=0.7, weight_decay=0.1),
        DPOSettings(adam_beta1=0.8, adam_beta2=0.7, weight_decay=0.1),
        PPOSettings(adam_beta1=0.8, adam_beta2=0.7, weight_decay=0.1),
        PretrainSettings(adam_beta1=0.8, adam_beta2=0.7, weight_decay=0.1),
    ):
        mine, other = (LanguageRole(body_of(causal_lm("llama"))) for _ in range(2))
        learner = LocalLearner(policy=mine, optimizer=optimizer_of(settings))
        weights = list(other.parameters().values())
        theirs = torch.optim.AdamW(
            [{"params": [one for one in weights if one.ndim >= 2], "weight_decay": 0.1},
             {"params": [one for one in weights if one.ndim < 2], "weight_decay": 0.0}],
            lr=1e-2, betas=(0.8, 0.7), eps=1e-8,
        )  # fmt: skip
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            for one, two in zip(mine.parameters().values(), weights, strict=True):
                one.grad = torch.randn(one.shape, generator=generator) * 1e-4  # below the norm that is clipped
                two.grad = one.grad.clone()
            learner.step(1e-2)
            theirs.step()
        for one, two in zip(mine.parameters().values(), weights, strict=True):
            torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
    assert (SFTSettings().adam_beta1, SFTSettings().adam_beta2) == (
        OptimizerSettings().beta1,
        OptimizerSettings().beta2,
    )
