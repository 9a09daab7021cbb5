"""LoRA layers that add to the product of their base in place, with the same bits.

    y = W x + s B A x

`peft` makes three tensors of the size of y and keeps the last. Tensors that are freed between others that are kept
leave holes, which the C library hardly fills with aligned memory: the passes of an update took twice what they kept.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from peft.tuners.lora import Linear
from torch import Tensor, nn


def use_lean_lora(model: nn.Module) -> None:
    """Give every linear layer of `model` with adapters this sum; calling it again changes nothing."""
    for module in model.modules():
        if isinstance(module, Linear) and type(module).forward is Linear.forward:
            module.forward = MethodType(_forward, module)


def _forward(layer: Any, x: Tensor) -> Tensor:
    worn = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or any(name in layer.lora_variant for name in worn):
        return Linear.forward(layer, x)  # type: ignore[no-any-return]
    found: Tensor = layer.base_layer(x)
    for name in worn:
        first, second = layer.lora_A[name], layer.lora_B[name]
        x = layer._cast_input_dtype(x, first.weight.dtype)
        change = second(first(layer.lora_dropout[name](x))).mul_(layer.scaling[name])
        found = found.add_(change) if change.dtype == found.dtype else (found + change).to(found.dtype)
    return found
