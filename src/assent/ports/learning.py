"""The seam towards the machine that learns: five verbs that hide where and how the work is done.

Legend: M predicted positions of a flat batch, B sequences, C classes, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from assent.metrics import Metrics
from assent.model.flat import FlatBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a loss wants to know of each predicted position or sequence."""

    logp: bool = True
    entropy: bool = False
    kl: bool = False
    kl_top_k: int | None = None
    reference_logp: bool = False
    value: bool = False
    logits: bool = False
    temperature: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the networks said; what was not needed is None."""

    logp_M: Tensor | None = None
    entropy_M: Tensor | None = None
    kl_M: Tensor | None = None
    reference_logp_M: Tensor | None = None
    value_M: Tensor | None = None
    logits_BC: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossResult:
    """A scalar loss and sums to be tallied over `count` items."""

    loss: Tensor
    sums: Metrics
    count: float


Loss = Callable[[Outputs], LossResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One optimiser step: norm of the gradient before clipping; `skipped` if it was not finite."""

    gradient_norm: float
    skipped: bool


class Learner(Protocol):
    """A trainable network (or several roles on one base) somewhere."""

    def score(self, batch: FlatBatch, need: Need, hidden_MH: Tensor | None = None) -> Outputs:
        """Forward without gradient; `hidden_MH` spares the policy's pass (its own hidden states, kept by a sampler)."""
        ...

    def forward_backward(self, batch: FlatBatch, need: Need, loss: Loss) -> LossResult:
        """Add the gradient of `loss` on this micro-batch; a non-finite loss is marked and makes `step` skip."""
        ...

    def step(self, learning_rate: float) -> StepReport:
        """One optimiser step with what was accumulated; clears the gradient."""
        ...

    def publish(self) -> None:
        """Samplers see the new weights from here on, and from nowhere else."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that training changes (weights, moments, generators) as a tree for `assent.model.state.pack`."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of `state`, bit for bit."""
        ...
