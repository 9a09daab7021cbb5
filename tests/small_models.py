"""Small random models of several architectures for tests: causal language models and an encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import transformers
from transformers import PreTrainedModel

from assent.model.body import Body

VOCABULARY = 300

_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "initializer_range": 0.2,  # far from uniform, so that mistakes show
}


def _grouped(**more: object) -> dict[str, object]:
    return {**_SMALL, "num_key_value_heads": 2, **more}


def _gpt2() -> transformers.GPT2Config:
    return transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=0,
        pad_token_id=1, initializer_range=0.2, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
    )  # fmt: skip


CAUSAL: dict[str, Callable[[], transformers.PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**_grouped(num_key_value_heads=4, tie_word_embeddings=True)),
    "qwen2": lambda: transformers.Qwen2Config(**_grouped()),
    "qwen3": lambda: transformers.Qwen3Config(**_grouped(head_dim=8)),
    "mistral": lambda: transformers.MistralConfig(**_grouped(sliding_window=4)),
    "gpt2": _gpt2,
    "neox": lambda: transformers.GPTNeoXConfig(**_SMALL),
}


def bert_config() -> transformers.BertConfig:
    """A small encoder with one output and a head that is not zero."""
    return transformers.BertConfig(**{**_SMALL, "type_vocab_size": 1, "num_labels": 1})


def seeded(make: Callable[[], PreTrainedModel], seed: int = 0) -> PreTrainedModel:
    """A model with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


_made: dict[str, PreTrainedModel] = {}


def causal_lm(name: str) -> PreTrainedModel:
    """A fresh copy of the small model of that architecture."""
    if name not in _made:
        _made[name] = seeded(lambda: transformers.AutoModelForCausalLM.from_config(CAUSAL[name]()))
    return copy.deepcopy(_made[name])


def body_of(model: PreTrainedModel) -> Body:
    """A body on the CPU in single precision."""
    return Body(model, device=torch.device("cpu"), precision="fp32")
