"""A model for decoding in bf16: its weights are cast once and laid out for the processor, not in every step.

Autocast casts a float32 weight whenever it is used, and oneDNN then lays it out in blocks. For the few tokens of a
decoding step this costs more than the product itself. Adapters stay beside their layers, as in training.
"""

from __future__ import annotations

import copy

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

_MKLDNN = torch.ops.mkldnn


class PreparedLinear(nn.Module):
    """`x @ weight.T + bias` in bf16, with the weight as it was when this was made.

    `room` holds at least one weight in bf16 and may be used again: without it, casting leaves holes in the heap.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, room: Tensor) -> None:
        super().__init__()
        self.weight = weight  # for whoever looks at the layer instead of calling it
        self.bias = None if bias is None else bias.detach().bfloat16()
        self._blocked = weight.device.type == "cpu" and torch._C._has_mkldnn and _MKLDNN._is_mkldnn_bf16_supported()
        if self._blocked:
            low = room[: weight.numel()].view(weight.shape).copy_(weight.detach())
            self._low = _MKLDNN._reorder_linear_weight(low)
        else:
            self._low = weight.detach().bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """The product of any number of rows."""
        if self._blocked:
            return _MKLDNN._linear_pointwise(x.bfloat16(), self._low, self.bias, "none", [], "")  # type: ignore[no-any-return]
        return linear(x.bfloat16(), self._low, self.bias)


class PreparedLora(nn.Module):
    """A linear layer with the adapter on it."""

    def __init__(self, layer: LoraLinear, adapter: str, room: Tensor) -> None:
        super().__init__()
        first, second, scale = layer.lora_A[adapter], layer.lora_B[adapter], layer.scaling[adapter]
        plain, bias = layer.get_base_layer(), second.bias
        self.weight, self.bias = plain.weight, plain.bias
        self._base = PreparedLinear(plain.weight, plain.bias, room)
        self._first = PreparedLinear(first.weight, None, room)
        self._second = PreparedLinear(second.weight * scale, None if bias is None else bias * scale, room)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's product and what the adapter adds."""
        x = x.bfloat16()
        return self._base(x).add_(self._second(self._first(x)))  # type: ignore[no-any-return]


@torch.no_grad()
def prepared(model: PreTrainedModel, adapter: str | None) -> PreTrainedModel:
    """A copy of `model` with its linear layers and their `adapter` as they are now; it shares everything else."""
    sizes = [module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear)]
    room = torch.empty(max(sizes, default=0), dtype=torch.bfloat16)
    layers = _layers(model, adapter, room)
    memo: dict[int, object] = {id(one): one for one in (*model.parameters(), *model.buffers())}
    shared = {module for module in model.modules() if not layers.keys() & {*module.modules()}}
    memo |= {id(module): module for module in shared} | {id(layer): found for layer, found in layers.items()}
    twin = copy.deepcopy(model, memo)
    for module in {*twin.modules()} - shared:  # with methods of their own, modules would keep themselves in memory
        for name in ("forward", "whole"):  # of `swiglu.py` and `last_mlp.py`, which save work for gradients and passes
            vars(module).pop(name, None)
    return twin


def _layers(module: nn.Module, adapter: str | None, room: Tensor) -> dict[nn.Module, nn.Module]:
    """The layers of a module that can be prepared, with what stands for them."""
    if type(module) is nn.Linear:
        return {module: PreparedLinear(module.weight, module.bias, room)}
    if isinstance(module, BaseTunerLayer):
        base = module.get_base_layer()
        if type(base) is not nn.Linear or not isinstance(module, LoraLinear):
            return {}
        if adapter is None or adapter not in module.lora_A:
            return {module: PreparedLinear(base.weight, base.bias, room)}
        return {} if adapter in module.lora_variant else {module: PreparedLora(module, adapter, room)}
    return {layer: found for child in module.children() for layer, found in _layers(child, adapter, room).items()}
