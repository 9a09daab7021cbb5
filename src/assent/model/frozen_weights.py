"""Frozen weights under adapters, held in bf16 where products are bf16 anyway: half the memory, no cast per product.

Autocast keeps the bf16 copy of a weight only if the weight wants a gradient, so a frozen float32 weight would be cast
in every layer of every pass. What trains stays in float32 ("master weights"), and so do vectors and reward heads. An
embedding of bf16 gives float32 hidden states all the same: the residual stream keeps its digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

_CAST_BY_AUTOCAST = (nn.Linear, Conv1D, nn.Embedding)  # these types themselves: a subclass may compute with its weight
_SCALAR_HEADS = ("score", "classifier")


def hold_frozen_in_bf16(model: nn.Module) -> None:
    """Cast the frozen matrices of a model with adapters, once; calling it again changes nothing."""
    named = [(name, module) for name, module in model.named_modules() if type(module) in _CAST_BY_AUTOCAST]
    chosen = [module for name, module in named if "lora_" not in name and name.split(".")[0] not in _SCALAR_HEADS]
    others = {id(weight) for module in model.modules() if module not in chosen
              for weight in module.parameters(recurse=False)}  # fmt: skip
    for module in chosen:
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        if id(weight) not in others and not weight.requires_grad:
            weight.data = weight.data.to(torch.bfloat16)
        if isinstance(module, nn.Embedding) and weight.dtype == torch.bfloat16 and not module._forward_hooks:
            module.register_forward_hook(_in_float32)


def _in_float32(module: nn.Module, given: object, found: Tensor) -> Tensor:
    return found.float()


@contextmanager
def frozen_in_float32(model: nn.Module) -> Iterator[None]:
    """Inside, the weights that are held in bf16 are float32 with the same values."""
    held = [weight for weight in model.parameters() if weight.dtype == torch.bfloat16]
    for weight in held:
        weight.data = weight.data.float()
    try:
        yield
    finally:
        for weight in held:
            weight.data = weight.data.to(torch.bfloat16)
