"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): a layer keeps its input alone and runs again backwards.

The layers are those that transformers marks for it. Its own switch works in training mode only, which would turn
dropout on, and knows nothing of adapters that are switched between the two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

Context = Callable[[], AbstractContextManager[None]]


def layers_of(model: nn.Module) -> tuple[nn.Module, ...]:
    """The layers that can be computed again; none where the architecture does not say."""
    return tuple(module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))


@contextmanager
def recomputing(layers: Sequence[nn.Module], again: Context) -> Iterator[None]:
    """Inside, the layers keep their inputs alone; they run again in a context of `again`. The gradient is the same."""
    for layer in layers:
        layer.forward = partial(_forward, layer, again)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Any, again: Context, *given: Any, **named: Any) -> Any:
    run = partial(type(layer).forward, layer, **named)
    return checkpoint(run, *given, use_reentrant=False, context_fn=lambda: (nullcontext(), again()))
