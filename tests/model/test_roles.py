"""Several roles on one base: adapters neither touch the base nor each other, and all of them learn."""

from __future__ import annotations

import hashlib

import pytest
import torch
from small_models import VOCABULARY, body_of, causal_lm
from torch import Tensor
from torch.testing import assert_close

from assent.model.adapters import LoraSettings
from assent.model.body import Body
from assent.model.flat import FlatBatch, flatten
from assent.model.roles import LanguageRole, ScalarRole, fresh_head

NAMES = ("policy", "critic", "reward")


def batch_of(seed: int = 0) -> FlatBatch:
    generator = torch.Generator().manual_seed(seed)
    return flatten([torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in (5, 8, 8)])


def adapted(name: str = "llama") -> Body:
    """A body with three adapters that all do something."""
    body = body_of(causal_lm(name))
    for adapter in NAMES:
        body.add_adapter(adapter, LoraSettings(rank=4, alpha=8.0))
        shake(body, adapter)
    return body


@torch.no_grad()
def shake(body: Body, adapter: str) -> None:
    generator = torch.Generator().manual_seed(sum(map(ord, adapter)))
    for parameter in body.adapter_parameters(adapter).values():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


def base_weights(body: Body) -> dict[str, Tensor]:
    return {name: p for name, p in body.model.named_parameters() if "lora_" not in name}


def fingerprint(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "neox"])
def test_with_adapters_off_the_body_is_its_base_bit_for_bit(name: str) -> None:
    batch = batch_of()
    with torch.no_grad():
        plain, body = body_of(causal_lm(name)).hidden(batch), adapted(name)
        assert torch.equal(body.hidden(batch, adapter=None), plain)
        for adapter in NAMES:
            assert (body.hidden(batch, adapter=adapter) - plain).abs().max() > 1e-3
        assert torch.equal(body.hidden(batch, adapter=None), plain)


@torch.no_grad()
def test_adapters_do_not_leak_into_each_other() -> None:
    batch, body = batch_of(), adapted()
    before = {adapter: body.hidden(batch, adapter=adapter) for adapter in NAMES}
    shake(body, "critic")
    assert torch.equal(body.hidden(batch, adapter="policy"), before["policy"])
    assert torch.equal(body.hidden(batch, adapter="reward"), before["reward"])
    assert not torch.equal(body.hidden(batch, adapter="critic"), before["critic"])
    alone = body_of(causal_lm("llama"))
    alone.add_adapter("policy", LoraSettings(rank=4, alpha=8.0))
    shake(alone, "policy")
    assert torch.equal(alone.hidden(batch, adapter="policy"), before["policy"])


def test_a_fresh_adapter_is_its_base_and_the_same_for_the_same_seed() -> None:
    batch, bodies = batch_of(), [body_of(causal_lm("llama")) for _ in range(3)]
    for body, seed in zip(bodies, (5, 5, 6), strict=True):
        torch.rand(seed)  # the global generator stands elsewhere each time
        body.add_adapter("policy", LoraSettings(rank=4), seed=seed)
    assert torch.equal(bodies[0].hidden(batch, adapter="policy"), bodies[0].hidden(batch))
    first, same, other = (fingerprint(body.adapter_parameters("policy")) for body in bodies)
    assert first == same != other


def test_policy_and_critic_both_learn_from_one_backward_pass_and_the_base_does_not() -> None:
    body, batch = adapted(), batch_of()
    policy = LanguageRole(body, "policy")
    critic = ScalarRole(body, fresh_head(body.hidden_size, seed=0, name="critic"), "critic")
    before = fingerprint(base_weights(body))
    trained = {**policy.parameters(), **critic.parameters()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    for _ in range(3):
        loss = policy.head.logits(policy.hidden(batch)).square().mean() + critic.values(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for adapter in ("policy", "critic"):
            gradients = [p.grad for p in body.adapter_parameters(adapter).values()]
            assert all(g is not None and g.abs().max() > 0 for g in gradients), adapter
        assert all(p.grad is None for p in body.adapter_parameters("reward").values())
        assert all(p.grad is None for p in base_weights(body).values())
        optimizer.step()
    assert fingerprint(base_weights(body)) == before


def test_wearing_is_undone_when_the_block_fails() -> None:
    body, batch = adapted(), batch_of()
    with torch.no_grad():
        plain = body.hidden(batch)
        with pytest.raises(ZeroDivisionError), body.wearing("policy"):
            raise ZeroDivisionError
        assert torch.equal(body.hidden(batch), plain)
        with body.wearing("policy"):
            worn = body.hidden(batch, adapter="critic")
        assert torch.equal(worn, body.hidden(batch, adapter="critic"))


def test_a_copied_adapter_says_the_same_and_goes_its_own_way() -> None:
    body, batch = adapted(), batch_of()
    body.copy_adapter("policy", "reference")
    with torch.no_grad():
        same = body.hidden(batch, adapter="reference")
        assert torch.equal(same, body.hidden(batch, adapter="policy"))
        shake(body, "policy")
        assert torch.equal(same, body.hidden(batch, adapter="reference"))


def test_a_scalar_role_reads_last_tokens_for_scores_and_predicted_ones_for_values() -> None:
    body, batch = body_of(causal_lm("gpt2")), batch_of()
    role = ScalarRole(body, fresh_head(body.hidden_size, seed=1, name="reward"))
    with torch.no_grad():
        hidden_NH = body.hidden(batch)
        raw_BC = role.logits(batch)
        assert_close(raw_BC, hidden_NH[[4, 12, 20]] @ role.head.weight.T)
        assert_close(role.values(batch), hidden_NH[batch.predict_M] @ role.head.weight[0])


def test_parameters_are_named_once() -> None:
    body = body_of(causal_lm("llama"))
    role = ScalarRole(body, fresh_head(body.hidden_size, seed=0, name="critic"))
    every, alone = role.parameters(), role.parameters(trunk=False)
    assert set(alone) == {"head.weight"}
    assert len({id(p) for p in every.values()}) == len(every) == len(list(body.model.parameters())) + 1
