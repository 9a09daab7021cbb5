"""The check at loading is relative to a model's own numbers, and sees faults that only long sequences show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import pytest
import torch
import transformers
from small_models import CAUSAL, body_of, causal_lm, seeded
from torch import Tensor
from torch.testing import assert_close

from assent.errors import ConfigError
from assent.model import attention
from assent.model.body import Body
from assent.model.cache import DecodeCache
from assent.model.flat import flatten
from assent.model.language_head import LanguageHead
from assent.model.verification import verify_flat


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


ARCHITECTURES: dict[str, dict[str, object]] = {
    "llama": {"tie_word_embeddings": True},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 8},
    "phi3": {},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
}


def large(factor: float, name: str = "qwen2") -> Body:
    """A plain model whose activations are as large as its weights make them."""
    model = causal_of(with_shape(name, num_key_value_heads=2, **ARCHITECTURES[name]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return body_of(model)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("factor", [0.05, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_plain_model_passes_however_large_its_numbers_are(name: str, factor: float, count: int) -> None:
    with threads(count):
        verify_flat(large(factor, name), "plain")


def wrong(body: Body, change: Any) -> Body:
    """A body whose flat row goes through attention that is a little wrong, its native one not."""
    plain = body._run

    def run(self: Body, ids: Tensor, positions: Tensor, flat: Any) -> Tensor:
        return change(plain(ids, positions, flat), positions)

    body._run = MethodType(run, body)  # type: ignore[method-assign]
    return body


FAULTS = {
    "everywhere a little": lambda hidden, _: hidden * torch.linspace(0.99, 1.01, hidden.shape[-1]),
    "at late positions only": lambda hidden, position: torch.where(position[..., None] > 40, hidden * 1.05, hidden),
    "one token": lambda hidden, position: torch.where(position[..., None] == 17, hidden.flip(-1), hidden),
    "not a number": lambda hidden, _: hidden * float("nan"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("factor", [0.05, 1.0, 10.0])
def test_a_model_with_other_numbers_is_refused_however_small_they_are(fault: str, factor: float) -> None:
    with pytest.raises(ConfigError, match="flat batches change this model's outputs"):
        verify_flat(wrong(large(factor), FAULTS[fault]), "wrong")


def test_a_window_that_is_not_kept_is_seen_where_a_sequence_is_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CAUSAL["mistral"]()
    config.sliding_window = 24
    body = body_of(seeded(lambda: transformers.AutoModelForCausalLM.from_config(config)))
    verify_flat(body, "windowed")
    monkeypatch.setattr(attention, "_window_mask", lambda length, *_: torch.ones(length, length).tril().bool())
    with pytest.raises(ConfigError, match="flat batches change"):
        verify_flat(body, "wide")


@pytest.mark.parametrize("name", ["GPTJ", "CodeGen"])
def test_a_model_that_does_not_file_its_keys_is_refused_before_it_writes(name: str) -> None:
    """Its flat passes are right, so only writing shows it."""
    config = getattr(transformers, f"{name}Config")(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, pad_token_id=1, eos_token_id=0
    )
    body = body_of(seeded(lambda: transformers.AutoModelForCausalLM.from_config(config)))
    with pytest.raises(ConfigError, match=r"model: this architecture cannot generate with a cache.*another arch"):
        verify_flat(body, "model")


def test_a_gptj_reward_model_is_taken() -> None:
    config = transformers.GPTJConfig(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, pad_token_id=1, num_labels=1
    )
    verify_flat(body_of(seeded(lambda: transformers.AutoModelForSequenceClassification.from_config(config))), "reward")


WRITTEN_WRONGLY = {
    "the place of a written token": lambda body: lambda ids, place, cache: body(ids, place + 1, cache),
    "what came before it": lambda body: lambda ids, place, cache: body(ids, place, forgetting(cache)),
}


def forgetting(cache: DecodeCache) -> DecodeCache:
    """The cache without the first token of every row."""
    for values in cache.values.values():
        for row, start in enumerate(cache.starts):
            values[row, :, start] = 0
    return cache


@pytest.mark.parametrize("fault", WRITTEN_WRONGLY)
@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_a_model_whose_numbers_differ_only_when_it_writes_is_refused(
    name: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = body_of(causal_lm(name))
    verify_flat(body, "right")
    monkeypatch.setattr(body, "next_hidden", WRITTEN_WRONGLY[fault](body.next_hidden))
    with pytest.raises(ConfigError, match="generation with a cache changes this model's outputs"):
        verify_flat(body, "wrong")


def test_a_model_whose_frequencies_depend_on_the_length_is_compared_where_they_are_steady() -> None:
    rope = {"rope_type": "longrope", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 16,
            "short_factor": [1.0] * 4, "long_factor": [1.0, 1.5, 2.0, 3.0]}  # fmt: skip
    config = CAUSAL["llama"]()
    config.rope_parameters = rope
    body = body_of(seeded(lambda: transformers.AutoModelForCausalLM.from_config(config)))
    assert body.steady_length == 16
    verify_flat(body, "longrope")


def with_shape(name: str, **more: object) -> transformers.PreTrainedConfig:
    """A small configuration of the architecture."""
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 1, "eos_token_id": 0,
             "bos_token_id": None, "initializer_range": 0.2, "max_position_embeddings": 64}  # fmt: skip
    return transformers.AutoConfig.for_model(name, **shape | more)


def causal_of(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    return seeded(lambda: transformers.AutoModelForCausalLM.from_config(config))


SCALED = {
    "granite": {"logits_scaling": 4.0},
    "granitemoe": {"logits_scaling": 4.0, "num_local_experts": 2, "num_experts_per_tok": 1},
    "hyperclovax": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}


@pytest.mark.parametrize("name", SCALED)
def test_logits_are_scaled_as_the_architecture_scales_them(name: str) -> None:
    config, ids = with_shape(name, **SCALED[name]), torch.tensor([[5, 9, 33, 7]])
    with torch.no_grad():
        true = causal_of(config)(ids, use_cache=False).logits[0]
        body = body_of(causal_of(config))
        verify_flat(body, name)
        mine = LanguageHead.of(body.model).logits(body.hidden(flatten(ids.tolist())))
    assert_close(mine, true, atol=1e-5, rtol=1e-5)


def test_an_architecture_that_keeps_a_state_is_refused_not_a_traceback() -> None:
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
              "linear_value_head_dim": 8, "head_dim": 8, "num_hidden_layers": 4}  # fmt: skip
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
               "shared_expert_intermediate_size": 16}  # fmt: skip
    for name, more in (("qwen3_5_text", {}), ("qwen3_next", experts)):
        with pytest.raises(ConfigError, match="another architecture"):
            verify_flat(body_of(causal_of(with_shape(name, **linear, **more))), name)


def test_an_architecture_that_stops_in_the_library_is_refused_by_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    body = body_of(causal_lm("llama"))

    def stop(*_: object, **__: object) -> None:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(body.model, "forward", stop)
    with pytest.raises(ConfigError, match="here: this architecture cannot run on flat batches: sizes do not match"):
        verify_flat(body, "here")


def test_a_lack_of_memory_is_not_taken_for_a_fault_of_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    body = body_of(causal_lm("llama"))

    def stop(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(body.model, "forward", stop)
    with pytest.raises(torch.OutOfMemoryError):
        verify_flat(body, "here")
