"""Short passes that show what the passes of an update will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch

from assent.backends.local.activations import Activations
from assent.backends.local.layout import Block
from assent.model.allocator import give_back_freed_memory
from assent.model.memory import held_memory_mib
from assent.model.roles import LanguageRole, ScalarRole
from assent.ports.learning import LossResult, Outputs
from assent.text.template import Encoded


def activations_of(
    roles: Sequence[LanguageRole | ScalarRole], forward: Callable[[Sequence[Block]], Outputs], some: Encoded, *,
    again: bool = False,
) -> Activations:  # fmt: skip
    """What passes over tokens like `some` keep for the gradient; `again`: with layers that run again for it."""
    heads = [parameter for one in roles if isinstance(one, ScalarRole) for parameter in one.head.parameters()]
    models = [tensor for one in roles for tensor in (*one.body.model.parameters(), *one.body.model.buffers())]

    def repeated(tokens: int) -> Outputs:
        example = Encoded(ids=tuple(islice(cycle(some.ids), tokens)), assistant_mask=(True,) * tokens)
        return forward([Block(places=(0,), examples=(example,))])

    for one in roles:
        one.body.recomputes = again
    try:
        return Activations.measured(repeated, [*heads, *models])
    finally:
        for one in roles:
            one.body.recomputes = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Seconds that passes took, and bytes by which the process grew: what they keep, and holes between it."""

    seconds: float
    grown_bytes: int


def tried(passes: Callable[[], object]) -> Trial:
    """Two runs, of which the second is timed."""
    give_back_freed_memory()
    before = held_memory_mib()
    passes()
    started = time.perf_counter()
    passes()
    return Trial(seconds=time.perf_counter() - started, grown_bytes=int(max(0.0, held_memory_mib() - before) * 2**20))


def every_column(outputs: Outputs, run: Sequence[Any], count: float) -> LossResult:
    """A loss that has a gradient in all that an update computes."""
    return LossResult(loss=torch.stack([one.sum() for one in outputs.columns.values()]).sum(), sums={}, count=count)
