"""Attention over all sequences of a flat row in one call of a variable-length kernel, on CUDA devices.

In bf16 and fp16 it is FlashAttention (Dao 2023, arXiv 2307.08691), in fp32 the memory-efficient kernel (Rabe & Staats
2021, arXiv 2112.05682), whose products are as exact as fp32's. Both backward passes add in a fixed order,
so the same seed gives the same bits.

Legend: H heads, G key/value heads, D head dimension, N tokens, B sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_FLASH = torch.ops.aten._flash_attention_forward
_FLASH_BACKWARD = torch.ops.aten._flash_attention_backward
_EFFICIENT = torch.ops.aten._efficient_attention_forward
_EFFICIENT_BACKWARD = torch.ops.aten._efficient_attention_backward
_LOW = (torch.bfloat16, torch.float16)
_WIDTH_STEP, _WIDEST = 8, 256  # head dimensions that the kernels take


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Where sequences begin and end in a flat row, on its device (B + 1, int32), and the longest of them."""

    starts: Tensor
    longest: int

    @staticmethod
    def of(lengths: tuple[int, ...], device: torch.device) -> Bounds:
        starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        return Bounds(starts, max(lengths))


@cache
def _has_kernels(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def takes(query_NHD: Tensor, value_NGD: Tensor, *, longest: int, window: int | None) -> bool:
    """Whether a kernel is there for these tensors; `longest` is the longest sequence's length."""
    width = query_NHD.shape[-1]
    if query_NHD.device.type != "cuda" or width % _WIDTH_STEP or width > _WIDEST or value_NGD.shape[-1] != width:
        return False
    if longest == 1 or not _has_kernels(query_NHD.device):
        return False
    narrow = window is not None and window < longest
    return query_NHD.dtype in _LOW or (query_NHD.dtype == torch.float32 and not narrow)


def attend(
    query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, bounds: Bounds,
    *, causal: bool, window: int | None, scale: float,
) -> Tensor:  # fmt: skip
    """Attended values (N, H, D), where `takes` says yes."""
    if query_NHD.dtype in _LOW:
        return _Flash.apply(query_NHD, key_NGD, value_NGD, bounds, causal, window, scale)  # type: ignore[no-any-return, no-untyped-call]
    repeats = query_NHD.shape[1] // key_NGD.shape[1]
    key_NHD, value_NHD = (_repeated(tensor, repeats) for tensor in (key_NGD, value_NGD))
    return _Efficient.apply(query_NHD, key_NHD, value_NHD, bounds, causal, scale)  # type: ignore[no-any-return, no-untyped-call]


def _repeated(tensor_NGD: Tensor, repeats: int) -> Tensor:
    """Each key/value head as often as query heads share it."""
    if repeats == 1:
        return tensor_NGD
    tokens, heads, width = tensor_NGD.shape
    return tensor_NGD[:, :, None].expand(tokens, heads, repeats, width).flatten(1, 2)


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        """Given: query, key, value, bounds, whether causal, the window, the scale."""
        *tensors, bounds, causal, window, scale = given
        tensors = [tensor.contiguous() for tensor in tensors]
        starts, longest = bounds.starts, bounds.longest
        # how many tokens a query sees on its left and on its right; -1 is no bound, and itself is one of the window
        left = -1 if window is None else window - 1
        near = {"scale": scale, "window_size_left": left, "window_size_right": 0 if causal else left}
        ctx.rest = (starts, starts, longest, longest, 0.0, causal)
        out, normaliser, *random, _ = _FLASH(*tensors, *ctx.rest, False, **near)
        ctx.save_for_backward(*tensors, out, normaliser, *random)
        ctx.near = near
        return out  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        *tensors, seed, offset = ctx.saved_tensors
        with _fixed_order():
            grads = _FLASH_BACKWARD(grad_NHD.contiguous(), *tensors, *ctx.rest, seed, offset, **ctx.near)
        return (*grads, None, None, None, None)


class _Efficient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        """Given: query, key, value, bounds, whether causal, the scale."""
        *tensors, bounds, causal, scale = given
        row = [tensor.contiguous()[None] for tensor in tensors]
        starts, longest = bounds.starts, bounds.longest
        ctx.causal, ctx.scale = int(causal), scale
        out, normaliser, seed, offset, *ctx.most = _EFFICIENT(
            *row, None, starts, starts, longest, longest, 0.0, ctx.causal, True, scale=scale
        )
        ctx.starts = starts
        ctx.save_for_backward(*row, out, normaliser, seed, offset)
        return out[0]  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        *row, out, normaliser, seed, offset = ctx.saved_tensors
        *grads, _ = _EFFICIENT_BACKWARD(
            grad_NHD.contiguous()[None], *row, None, out, ctx.starts, ctx.starts, *ctx.most, normaliser,
            0.0, seed, offset, ctx.causal, False, scale=ctx.scale, num_splits_key=1,
        )  # fmt: skip
        return (*(grad[0] for grad in grads), None, None, None)


@contextmanager
def _fixed_order() -> Iterator[None]:
    """In this context PyTorch is deterministic, so FlashAttention adds the gradient of the queries in a fixed order."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch._C._set_deterministic_algorithms(True, warn_only=False)
    try:
        yield
    finally:
        torch._C._set_deterministic_algorithms(before[0], warn_only=before[1])
