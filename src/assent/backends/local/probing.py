"""Short passes that show what the passes of an update will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

import torch

from assent.backends.local.activations import Activations
from assent.backends.local.layout import Block
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


def every_column(outputs: Outputs, run: Sequence[Any], count: float) -> LossResult:
    """A loss that has a gradient in all that an update computes."""
    return LossResult(loss=torch.stack([one.sum() for one in outputs.columns.values()]).sum(), sums={}, count=count)
