"""Prepared weights write what autocast writes, up to rounding; they stay what they were, and share all else."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from small_models import CAUSAL, VOCABULARY, causal_lm
from torch import nn
from torch.testing import assert_close

from assent.model.adapters import LoraSettings
from assent.model.body import Body
from assent.model.cache import DecodeCache
from assent.model.flat import flatten
from assent.model.prepared import PreparedLinear, PreparedLora
from assent.model.roles import LanguageRole

PROMPTS = [[5, 9, 2, 17], [7], [11, 12, 13, 14, 15, 16, 17, 30, 31], [3, 3, 8, 21]]


def low(name: str, adapter: str | None = None, *, dora: bool = False) -> LanguageRole:
    """A role in bf16, with an adapter that changes something."""
    body = Body(causal_lm(name), device=torch.device("cpu"), precision="bf16")
    if adapter is not None:
        config = LoraSettings(rank=4, alpha=6.0).peft()
        config.use_dora, config.lora_bias = dora, not dora and name == "neox"
        body.add_adapter(adapter, config)
        drawn = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for key, parameter in body.model.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(0.0, 0.1, generator=drawn)
    return LanguageRole(body, adapter)


@torch.no_grad()
def logits(role: LanguageRole) -> torch.Tensor:
    """Of the token behind each prompt, and of the one behind a token that is generated with the cache."""
    batch = flatten(PROMPTS)
    cache = DecodeCache(batch.lengths, spare=1)
    read_BH = role.body.hidden(batch, batch.last_B, adapter=role.adapter, cache=cache)
    with role.body.wearing(role.adapter):
        next_BH = role.body.next_hidden(torch.tensor([4, 5, 6, 7]), torch.tensor(batch.lengths), cache)
    return role.head.logits(torch.cat([read_BH.float(), next_BH.float()]))


def near(mine: torch.Tensor, true: torch.Tensor) -> None:
    """Within a few steps of bf16 of the largest number."""
    assert_close(mine, true, atol=0.03 * true.abs().max().item(), rtol=0.0)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_prepared_role_writes_what_the_role_writes(name: str) -> None:
    role = low(name)
    near(logits(role.prepared()), logits(role))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "neox"])
@pytest.mark.parametrize("dora", [False, True])
def test_so_it_does_with_an_adapter_on_and_off(name: str, dora: bool) -> None:
    role = low(name, "policy", dora=dora)
    on, off = logits(role), logits(LanguageRole(role.body))
    near(logits(role.prepared()), on)
    near(logits(LanguageRole(role.body).prepared()), off)
    assert (on - off).abs().max() > 0.1 * on.abs().max()


def test_linear_layers_and_adapters_are_prepared_and_all_else_is_shared() -> None:
    plain, adapted = low("llama"), low("llama", "policy")
    for role, kind in ((plain, PreparedLinear), (adapted, PreparedLora)):
        twin = role.prepared().body.model
        blocks = [layer for layer in twin.get_decoder().layers for layer in (layer.mlp, layer.self_attn)]
        layers = [part for block in blocks for name, part in block.named_children() if name.endswith("_proj")]
        assert len(layers) == 14 and all(type(layer) is kind for layer in layers)
        assert type(twin.get_output_embeddings()) is PreparedLinear
        embedding = role.body.model.get_input_embeddings()
        assert twin.get_input_embeddings() is embedding
    assert low("llama", "policy", dora=True).prepared().body.has_adapters
    assert not adapted.prepared().body.has_adapters


def test_prepared_weights_stay_when_the_model_learns_and_the_model_does_not_change() -> None:
    role = low("qwen2")
    before, twin = logits(role), role.prepared()
    written = logits(twin)
    assert torch.equal(logits(role), before)
    with torch.no_grad():
        for module in role.body.model.modules():
            if isinstance(module, nn.Linear) and module is not role.body.model.get_output_embeddings():
                module.weight.neg_()
    assert torch.equal(logits(twin), written)
    assert not torch.equal(logits(role.prepared()), written)


@pytest.mark.parametrize("name", CAUSAL)
def test_prepared_weights_are_freed_as_soon_as_nobody_writes_with_them(name: str) -> None:
    role, adapted = low(name), low(name, "policy")
    gc.disable()
    try:
        for one in (role, adapted):
            twin = one.prepared()
            logits(twin)
            gone = [weakref.ref(module) for module in twin.body.model.modules() if isinstance(module, PreparedLinear)]
            assert gone
            del twin
            assert not any(ref() for ref in gone)
    finally:
        gc.enable()


def test_a_head_in_bf16_draws_from_the_logits_that_the_learner_sees() -> None:
    role = low("llama")
    hidden_NH = torch.randn(5, role.body.hidden_size, generator=torch.Generator().manual_seed(2))
    layer = role.prepared().head
    low_NV = hidden_NH.bfloat16() @ layer.weight_VH.detach().bfloat16().T
    assert layer.logits(hidden_NH).shape == (5, VOCABULARY)
    assert_close(layer.logits(hidden_NH), low_NV.float(), atol=0.0, rtol=0.01)


def test_in_float32_a_role_is_its_own_prepared_one() -> None:
    role = LanguageRole(Body(causal_lm("llama"), device=torch.device("cpu"), precision="fp32"))
    assert role.prepared() is role
