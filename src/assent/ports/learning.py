"""The seam towards the machine that learns: an algorithm says what it wants, the backend decides how it is done.

Legend: M predicted positions of some examples, B their sequences, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from assent.metrics import Metrics, Tally
from assent.model.roles import LanguageRole, ScalarRole
from assent.ports.sampling import Progress, Sampler, silent
from assent.text.template import ChatTemplate, Encoded


class Example(Protocol):
    """What a loss is taken of: token sequences that stay in one micro-batch, and whatever else the loss reads."""

    @property
    def sequences(self) -> Sequence[Encoded]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Which columns are wanted of each predicted position (`logits`: of each sequence); `values` are names of critics.

    A column has the name of its field, a value that of its critic. An exact `kl` brings `reference_logp` with it.
    `action_values`: the columns of `ActionValues`, and `logp` by the language model beside them.
    """

    logp: bool = True
    entropy: bool = False
    kl: bool = False
    kl_top_k: int | None = None
    reference_logp: bool = False
    values: tuple[str, ...] = ()
    action_values: bool = False
    logits: bool = False
    temperature: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The columns that a `Need` named, M long, or (B, C) for `logits`.

    `from_states`: the policy did not read the example again, so its numbers say nothing about the sampler.
    """

    columns: Mapping[str, Tensor]
    from_states: bool = False

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    @staticmethod
    def joined(parts: Sequence[Outputs]) -> Outputs:
        """The outputs of several examples as one."""
        return Outputs(columns={name: torch.cat([part[name] for part in parts]) for name in parts[0].columns})

    def split(self, examples: Sequence[Example], *, from_states: bool = False) -> list[Outputs]:
        """The outputs of each example, in float32 on the CPU."""
        rows = [len(one.sequences) for one in examples]
        tokens = [sum(sequence.predicted for sequence in one.sequences) for one in examples]
        parts = {
            name: torch.split(column.float().cpu(), rows if name == "logits" else tokens)
            for name, column in self.columns.items()
        }
        return [
            Outputs(columns={name: part[place] for name, part in parts.items()}, from_states=from_states)
            for place in range(len(examples))
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossResult:
    """A scalar loss and sums to be tallied over `count` items; `counts` of those that are over others, by name."""

    loss: Tensor
    sums: Metrics
    count: float
    counts: Metrics = field(default_factory=dict)

    def add_to(self, tally: Tally) -> None:
        """Add the sums to a tally."""
        for name, total in self.sums.items():
            tally.add({name: total}, self.counts.get(name, self.count))


Loss = Callable[[Outputs, Sequence[Any], float], LossResult]
"""(outputs of some examples, these examples, what to divide by: the count of the whole optimiser step)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedBatch:
    """A micro-batch of an update that was skipped: its loss, its sequences, and how many tokens of each it predicts."""

    loss: float
    sequences: tuple[tuple[int, ...], ...]
    predicted: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """One optimiser step: the means that the loss tallied, and the norm of the gradient before clipping.

    If the loss or the gradient was not finite, nothing was changed, and `skipped` holds the micro-batches.
    """

    means: Metrics
    gradient_norm: float
    skipped: tuple[SkippedBatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCost:
    """What an update takes: seconds of each token of its examples, and bytes beyond what is held before the first one:
    gradients, moments, and what a micro-batch keeps for the gradient. `snapshot_bytes` are those of a snapshot."""

    seconds_per_token: float
    memory_bytes: int
    snapshot_bytes: int


class Learner(Protocol):
    """Trainable networks somewhere. Packing, micro-batches, sharding and accumulation are its own business."""

    @property
    def drift_limit(self) -> float:
        """Mean nats a token by which rounding alone lets this learner and its samplers disagree."""

    def score(
        self,
        examples: Sequence[Example],
        need: Need,
        *,
        states: Sequence[np.ndarray | None] = (),
        progress: Progress = silent,
    ) -> list[Outputs]:
        """Forward without gradient: what was needed of each example, in the order given.

        `states` is what the sampler of the same backend kept of each example (`Turn.states`): it may spare a pass.
        `progress` counts examples, and may raise to end the work.
        """

    def update(
        self, examples: Sequence[Example], need: Need, loss: Loss, count: float, learning_rate: float, *,
        progress: Progress = silent,
    ) -> UpdateReport:  # fmt: skip
        """One whole optimiser step. `loss` divides by `count`, so that micro-batches and ranks add up exactly.

        `progress` counts examples, before each further micro-batch; where it raises, nothing has changed.
        """

    def probe(self, examples: Sequence[Example], need: Need) -> UpdateCost:
        """What updates with examples like these take, found with some of them; changes nothing."""

    def snapshot(self) -> bool:
        """Hold all that training changes in memory, for `rollback`; False where that would take too much of it."""

    def rollback(self) -> None:
        """Everything as `snapshot` held it, bit for bit."""

    def publish(self) -> int:
        """Samplers see the new weights from here on; returns their version. Called before rollouts alone."""

    def save(self, folder: Path) -> dict[str, str]:
        """Write all that training changes (weights, moments, generators) into a folder; sha256 by file name."""

    def load(self, folder: Path) -> None:
        """The reverse of `save`, bit for bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Who takes part: a policy with its critics by name, or one scalar model; the reference is only asked."""

    policy: LanguageRole | None = None
    critics: Mapping[str, ScalarRole] = field(default_factory=dict)
    scalar: ScalarRole | None = None
    reference: LanguageRole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSettings:
    """AdamW (Loshchilov & Hutter 2019); weight decay on matrices only; gradients clipped to `max_gradient_norm`.

    A micro-batch has at most `micro_batch_tokens` (None: the learner chooses by its memory), unless a single example
    has more. With `gradient_checkpointing` "auto" only layers whose activations would not fit run again.
    """

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    micro_batch_tokens: int | None = None
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    dropout: bool = False


class Backend(Protocol):
    """Makes learners and samplers from roles."""

    def learner(self, roles: Roles, settings: LearnerSettings = LearnerSettings(), *, seed: int = 0) -> Learner:
        """A learner of these roles; what it draws at random (dropout) follows from `seed`."""

    def sampler(self, role: LanguageRole, template: ChatTemplate, *, rollouts: bool = False) -> Sampler:
        """A sampler that writes with a role; for `rollouts` it may keep what spares the learner work."""
