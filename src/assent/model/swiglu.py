"""Gated feed-forward blocks (SwiGLU, Shazeer 2020) that keep a quarter less for the backward pass, with the same bits.

    y = W_down (silu(W_gate x) * W_up x)

Autograd keeps the gate, its activation, the other factor and the product; here the activation is computed again.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
_PROBE_TOKENS = 4


class _Gated(torch.autograd.Function):
    """silu(gate) * other."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, other: Tensor) -> Tensor:
        """The product, of the shape and type of both."""
        ctx.save_for_backward(gate, other)
        return silu(gate).mul_(other)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both factors."""
        gate, other = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * other, gate), silu(gate).mul_(grad)


def use_lean_swiglu(model: nn.Module) -> None:
    """Give every plain gated block of `model` this product; any other block is left as it is."""
    for module in model.modules():
        if set(dict(module.named_children())) == _PARTS and "forward" not in vars(module) and _is_plain(module):
            module.forward = MethodType(_forward, module)


@torch.no_grad()
def _is_plain(module: Any) -> bool:
    weight = getattr(module.gate_proj, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return False
    probe = torch.linspace(-2.0, 3.0, _PROBE_TOKENS * weight.shape[1], device=weight.device, dtype=weight.dtype)
    probe = probe.sin().view(1, _PROBE_TOKENS, -1)
    same_activation = torch.allclose(module.act_fn(probe), silu(probe), rtol=1e-5, atol=1e-6)
    return same_activation and torch.allclose(module(probe), _forward(module, probe), rtol=1e-5, atol=1e-6)


def _forward(module: Any, x: Tensor) -> Tensor:
    gate, other = module.gate_proj(x), module.up_proj(x)
    product = _Gated.apply(gate, other) if torch.is_grad_enabled() else silu(gate).mul_(other)  # type: ignore[no-untyped-call]
    return module.down_proj(product)  # type: ignore[no-any-return]
