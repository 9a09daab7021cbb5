"""Run the last layer's feed-forward block only for the tokens whose output is read.

The block works token by token, and nothing after it mixes tokens. If only some last hidden states are needed (those
that predict a completion, or the last one of each sequence), it can skip the other tokens. With six layers this saves
up to a tenth of the arithmetic, with fewer layers more.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from assent.model.flat import even

_WORTH_BELOW = 0.9  # share of tokens that are read; above it, choosing costs more than it saves
_FEWEST = 4  # the bits of a product of fewer rows depend, on a CPU, on where in memory the weights lie
_NAMES = ("mlp", "feed_forward")


def last_mlp(trunk: nn.Module) -> nn.Module | None:
    """The last layer's feed-forward block, made so that `reading` can narrow it; None where there is no plain one."""
    layers = next((part for part in trunk.children() if isinstance(part, nn.ModuleList) and len(part)), None)
    block = next((found for name in _NAMES if layers is not None and (found := getattr(layers[-1], name, None))), None)
    if not isinstance(block, nn.Module) or not _is_plain(block):
        return None
    if "whole" not in vars(block):  # a copy of a block that has been here has it
        block.whole = block.forward  # type: ignore[assignment]
    block.forward = MethodType(_forward, block)
    block.rows_R = None  # type: ignore[assignment]
    return block


def _is_plain(block: nn.Module) -> bool:
    """Judged by name and signature, one tensor in and one out; a mixture of experts, for example, is not changed."""
    taken = list(inspect.signature(type(block).forward).parameters)
    return type(block).__name__.endswith("MLP") and len(taken) == 2


@contextmanager
def reading(block: nn.Module | None, rows_R: Tensor | None, tokens: int, *, evened: bool = False) -> Iterator[None]:
    """Inside, the block of a flat row of `tokens` tokens runs for the tokens `rows_R` alone and is zero elsewhere.

    No token may be named twice. With `evened` it runs for a few more, up to an even number (`flat.even`).
    """
    if block is None or rows_R is None or not _FEWEST <= rows_R.shape[0] <= _WORTH_BELOW * tokens:
        yield
        return
    block.rows_R = _with_others(rows_R, tokens, even(rows_R.shape[0])) if evened else rows_R
    try:
        yield
    finally:
        block.rows_R = None  # type: ignore[assignment]


def _with_others(rows_R: Tensor, tokens: int, wanted: int) -> Tensor:
    """`rows_R` and the first other rows of the `tokens`, `wanted` in all or all there are."""
    others_N = torch.ones(tokens, dtype=torch.bool, device=rows_R.device).index_fill_(0, rows_R, False)
    return torch.cat([rows_R, others_N.nonzero()[: wanted - rows_R.shape[0], 0]])


def _forward(module: Any, hidden_states: Tensor) -> Tensor:
    rows_R = module.rows_R
    if rows_R is None:
        return module.whole(hidden_states)  # type: ignore[no-any-return]
    some: Tensor = module.whole(torch.index_select(hidden_states, 1, rows_R))
    return some.new_zeros((*hidden_states.shape[:2], some.shape[-1])).index_copy(1, rows_R, some)
