"""New small models: a standard Llama architecture with random weights."""

from __future__ import annotations

import torch
from pydantic import Field
from transformers import LlamaConfig, LlamaForCausalLM

from assent.config import Settings
from assent.errors import ConfigError
from assent.seeds import derive

_ROPE_THETA = 1000.0  # short contexts: slow rotations would never turn


class ModelShape(Settings):
    """Size of a new model; embeddings are tied."""

    vocabulary_size: int = Field(default=1024, ge=300)
    hidden_size: int = Field(default=128, ge=8)
    layers: int = Field(default=5, ge=1)
    heads: int = Field(default=4, ge=1)
    intermediate_size: int = Field(default=352, ge=8)
    context: int = Field(default=256, ge=16)


def new_causal_lm(shape: ModelShape, *, vocabulary: int, end_id: int, pad_id: int, seed: int) -> LlamaForCausalLM:
    """A model with weights drawn from `seed`; the global generator is left as it was."""
    if shape.hidden_size % shape.heads:
        raise ConfigError(f"hidden_size {shape.hidden_size} is not a multiple of heads {shape.heads}")
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_id,
        pad_token_id=pad_id,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        return LlamaForCausalLM(config)
