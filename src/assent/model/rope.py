"""Rotary embeddings with frequencies that depend on the length of a sequence: every sequence gets its own.

`dynamic` (NTK-aware scaling) and `longrope` (Ding et al. 2024, arXiv 2402.13753) choose frequencies by the longest
sequence of a call. A flat row holds many sequences, so we call them once per length: each sequence has the
frequencies that it has alone. A token that is being generated has those of the sequence up to it, as in the library's
own cached generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

_KINDS = ("dynamic", "longrope")


def length_dependent(model: nn.Module) -> tuple[nn.Module, ...]:
    """The rotary embeddings of `model` that depend on the length, made so that `turning` can tell them the lengths."""
    found = tuple(module for module in model.modules() if _layers(module))
    for module in found:
        module.length_N = None  # type: ignore[assignment]
        module.forward = MethodType(_forward, module)
    return found


def steady_length(modules: Sequence[nn.Module]) -> int | None:
    """Up to this many tokens the frequencies are the same for every length; None without such embeddings."""
    return min((_steady(module) for module in modules), default=None)


@contextmanager
def turning(modules: Sequence[nn.Module], length_N: Tensor) -> Iterator[None]:
    """Inside, token n of a call belongs to a sequence of `length_N[n]` tokens."""
    for module in modules:
        module.length_N = length_N
    try:
        yield
    finally:
        for module in modules:
            module.length_N = None  # type: ignore[assignment]


def _layers(module: nn.Module) -> dict[str, str]:
    """The kind by prefix (of the layers' type, or empty) of a rotary embedding that depends on the length."""
    kind: Any = getattr(module, "rope_type", None)
    kinds = {f"{layer}_": one for layer, one in kind.items()} if isinstance(kind, dict) else {"": kind}
    return {prefix: str(one) for prefix, one in kinds.items() if any(known in str(one) for known in _KINDS)}


def _steady(module: Any) -> int:
    lengths = []
    for prefix, kind in _layers(module).items():
        given = module.config.rope_parameters
        given = given[prefix.removesuffix("_")] if prefix else given
        lengths.append(given["original_max_position_embeddings"] if kind == "longrope" else module.original_max_seq_len)
    return int(min(lengths))


def _reset(module: Any) -> None:
    """Forget the lengths of earlier calls."""
    for prefix, kind in _layers(module).items():
        if kind != "longrope":
            original = getattr(module, f"{prefix}original_inv_freq").to(getattr(module, f"{prefix}inv_freq").device)
            module.register_buffer(f"{prefix}inv_freq", original, persistent=False)
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def _forward(module: Any, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> tuple[Tensor, Tensor]:
    more = {} if layer_type is None else {"layer_type": layer_type}
    whole = type(module).forward
    if module.length_N is None:
        _reset(module)
        return whole(module, x, position_ids, **more)  # type: ignore[no-any-return]
    position_N = position_ids.reshape(-1)
    length_N = module.length_N.clamp(min=_steady(module))
    pieces, places = [], []
    for length in length_N.unique():
        places.append((length_N == length).nonzero()[:, 0])
        _reset(module)
        pieces.append(whole(module, x, position_N[None, places[-1]], **more))
    back_N = torch.cat(places).argsort()
    cos, sin = (torch.cat([piece[side][0] for piece in pieces])[back_N] for side in (0, 1))
    return cos.view(*position_ids.shape, -1), sin.view(*position_ids.shape, -1)
