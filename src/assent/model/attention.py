"""Attention over flat batches, registered with transformers' attention interface under the name FLAT.

A model loaded with `attn_implementation=FLAT` gets a `FlatLayout` (training, scoring, the first pass of generation:
one row of tokens, sequences never see each other) or a `DecodeCache` (one new token per sequence) as the keyword
argument `flat`. One scaled-dot-product call serves each run of neighbouring sequences of equal length; on a CUDA
device one variable-length kernel serves all sequences (`varlen.py`), where it takes them.

Legend: H heads, G key/value heads, D head dimension, N tokens, B sequences, C cache columns.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from assent.errors import ConfigError
from assent.model import varlen
from assent.model.cache import DecodeCache

FLAT = "assent_flat"
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "head_mask")


@dataclass(frozen=True, slots=True)
class Run:
    """`count` neighbouring sequences of `length` tokens, from token `start`."""

    start: int
    count: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.count * self.length

    def of(self, tensor_NHD: Tensor) -> Tensor:
        """The run's part of a flat tensor as (count, H, length, D), a view."""
        mine = tensor_NHD[self.start : self.stop]
        return mine.view(self.count, self.length, *mine.shape[1:]).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """The sequences of a flat row; with `cache`, attention also stores keys and values there.

    With `trees` the row holds prefix trees, and a token sees itself and the tokens before it in its sequences.
    """

    lengths: tuple[int, ...]
    runs: tuple[Run, ...]
    cache: DecodeCache | None = None
    trees: TreeMasks | None = None
    made: dict[torch.device, varlen.Bounds] = field(default_factory=dict, compare=False, repr=False)

    def bounds(self, device: torch.device) -> varlen.Bounds:
        """Where the sequences lie, made once for all layers."""
        if device not in self.made:
            self.made[device] = varlen.Bounds.of(self.lengths, device)
        return self.made[device]

    @staticmethod
    def of(lengths: tuple[int, ...], cache: DecodeCache | None = None, trees: TreeMasks | None = None) -> FlatLayout:
        runs, start = [], 0
        for length, same in groupby(lengths):
            count = len(list(same))
            runs.append(Run(start, count, length))
            start += count * length
        return FlatLayout(lengths, tuple(runs), cache, trees)


@dataclass(frozen=True, slots=True)
class TreeMasks:
    """What each token of a row of trees sees, made once for all layers; `ends_N` and `depth_N` as in `FlatBatch`."""

    ends_N: Tensor
    depth_N: Tensor
    made: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    def of(self, run: Run, window: int | None) -> Tensor:
        """The run's mask (count, 1, length, length): key j is seen by query i iff j <= i < end of j, in the window."""
        if (run.start, window) not in self.made:
            ends_BL = self.ends_N[run.start : run.stop].view(run.count, run.length)
            place_L = torch.arange(run.length, device=ends_BL.device)
            seen_BLL = (place_L[:, None] >= place_L) & (place_L[:, None] < ends_BL[:, None, :])
            if window is not None:
                depth_BL = self.depth_N[run.start : run.stop].view(run.count, run.length)
                seen_BLL &= depth_BL[:, :, None] - depth_BL[:, None, :] < window
            self.made[run.start, window] = seen_BLL[:, None]
        return self.made[run.start, window]


def _window_mask(length: int, window: int, causal: bool, device: torch.device) -> Tensor:
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)[None, :]
    near = distance.abs() < window
    return near & (distance >= 0) if causal else near


class _FlatRuns(torch.autograd.Function):
    """Attention over all runs as one node of the graph: on a CPU, autograd's slices would cost as much as the work."""

    @staticmethod
    def forward(ctx: Any, query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, *given: Any) -> Tensor:
        """Attended values (N, H, D). Given: the runs, whether causal, and the scale."""
        runs, causal, scale = given
        out_NHD = query_NHD.new_empty(query_NHD.shape)
        normalisers = []
        for run in runs:
            parts = [run.of(tensor) for tensor in (query_NHD, key_NGD, value_NGD)]
            attended, normaliser = _FLASH(*parts, 0.0, causal and run.length > 1, scale=scale)
            run.of(out_NHD).copy_(attended)
            normalisers.append(normaliser)
        ctx.save_for_backward(query_NHD, key_NGD, value_NGD, out_NHD, *normalisers)
        ctx.given = given
        return out_NHD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        saved = ctx.saved_tensors  # once: layers that run again for the gradient give it out once
        tensors, normalisers = saved[:4], saved[4:]
        runs, causal, scale = ctx.given
        grads = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in tensors[:3]]
        for run, normaliser in zip(runs, normalisers, strict=True):
            parts = [run.of(tensor) for tensor in (grad_NHD, *tensors)]
            found = _FLASH_BACKWARD(*parts, normaliser, 0.0, causal and run.length > 1, scale=scale)
            for grad, part in zip(grads, found, strict=True):
                run.of(grad).copy_(part)
        return (*grads, None, None, None)


def _attend_flat(
    query_HND: Tensor, key_GND: Tensor, value_GND: Tensor, layout: FlatLayout, options: dict[str, Any]
) -> Tensor:
    """One call for all sequences on a CUDA device, else one per run of equal lengths; returns (N, H, D)."""
    causal, window = options["causal"], options["window"]
    grouped = query_HND.shape[0] != key_GND.shape[0]
    tensors = query_HND, key_GND, value_GND
    wide = window is None or max(layout.lengths) <= window
    single = layout.trees is None and not options["dropout"]
    if single and wide and query_HND.shape[-1] == value_GND.shape[-1] and query_HND.device.type == "cpu":
        rows = (tensor.transpose(0, 1) for tensor in tensors)
        return _FlatRuns.apply(*rows, layout.runs, causal, options["scale"])  # type: ignore[no-any-return, no-untyped-call]
    if query_HND.device.type == "cuda" and single:
        query_NHD, key_NGD, value_NGD = (tensor.transpose(0, 1) for tensor in tensors)
        bounds = layout.bounds(query_HND.device)
        if varlen.takes(query_NHD, value_NGD, longest=bounds.longest, window=window):
            return varlen.attend(
                query_NHD, key_NGD, value_NGD, bounds, causal=causal, window=window, scale=options["scale"]
            )
    pieces = []
    sizes = [run.stop - run.start for run in layout.runs]
    for run, *parts in zip(layout.runs, *(torch.split(tensor, sizes, dim=1) for tensor in tensors), strict=True):
        query, key, value = (part.unflatten(1, (run.count, run.length)).transpose(0, 1) for part in parts)
        narrow = window is not None and run.length > window
        mask = _window_mask(run.length, window, causal, query.device) if narrow else None
        if layout.trees is not None:
            mask = layout.trees.of(run, window)
        attended = scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=options["dropout"], scale=options["scale"],
            is_causal=causal and mask is None and run.length > 1, enable_gqa=grouped,
        )  # fmt: skip
        pieces.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def _working(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that attention works in: autocast's where it is on, but float32 on a CPU.

    There oneDNN would prepare a bf16 product for every length and keep it: slower, and hundreds of MiB.
    """
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.float32 if device == "cpu" else torch.get_autocast_dtype(device)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _attend_decode(query_BHD: Tensor, layer: int, cache: DecodeCache, options: dict[str, Any]) -> Tensor:
    """One query per row against the columns in use; returns (B, H, D)."""
    used = cache.used + 1
    key_BGCD, value_BGCD = cache.keys[layer][:, :, :used], cache.values[layer][:, :, :used]
    assert cache.unseen_BC is not None
    unseen_BC, window = cache.unseen_BC[:, :used], options["window"]
    narrow = window is not None and window < used
    if narrow:
        unseen_BC = unseen_BC | (torch.arange(used, device=unseen_BC.device) < used - window)
    rows, heads, width = query_BHD.shape
    groups = key_BGCD.shape[1]
    query_BGRD = query_BHD.view(rows, groups, heads // groups, width) * options["scale"]
    score_BGRC = torch.matmul(query_BGRD, key_BGCD.transpose(2, 3))
    if narrow or any(cache.starts):
        score_BGRC.masked_fill_(unseen_BC[:, None, None, :], float("-inf"))
    return torch.matmul(score_BGRC.softmax(-1), value_BGCD).view(rows, heads, -1)


def flat_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer: (1, H, N, D) or (B, H, 1, D) in, (1|B, N|1, H, D) out."""
    flat: FlatLayout | DecodeCache | None = given.get("flat")
    if flat is None or any(given.get(name) is not None for name in _UNSUPPORTED):
        raise ConfigError(
            f"{type(module).__name__} uses attention that flat batches do not support",
            now="Use a model with plain, grouped-query or sliding-window attention.",
        )
    scale, causal = given.get("scaling"), given.get("is_causal")
    options = {
        "scale": query.shape[-1] ** -0.5 if scale is None else scale,
        "dropout": given.get("dropout", 0.0),
        "window": given.get("sliding_window"),
        "causal": bool(getattr(module, "is_causal", True) if causal is None else causal),
    }
    layer: Any = getattr(module, "layer_idx", None)  # encoders have none, and no cache
    query, key, value = _working(query, key, value)
    on_cpu = query.device.type == "cpu"
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
        if isinstance(flat, DecodeCache):
            flat.keys[layer][:, :, flat.used] = key[:, :, 0]
            flat.values[layer][:, :, flat.used] = value[:, :, 0]
            return _attend_decode(query[:, :, 0], layer, flat, options)[:, None], None
        if flat.cache is not None:
            flat.cache.file_prompts(layer, key[0], value[0])
        return _attend_flat(query[0], key[0], value[0], flat, options)[None], None


AttentionInterface.register(FLAT, flat_attention)
AttentionMaskInterface.register(FLAT, lambda *_, **__: None)  # boundaries come from the layout, no mask is ever built
