"""What a run will take, told before its first step: from a probe of a few micro-batches, and from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assent.ports.learning import Example, Learner, Need

FORWARD_SHARE = 1 / 3  # of the time of a pass with gradient, where the gradient takes twice the products


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds of the whole run, and bytes that it will hold beyond what is held before its first step."""

    seconds: float
    memory_bytes: int


def tokens_of(examples: Sequence[Example]) -> int:
    """Tokens of all sequences."""
    return sum(len(sequence) for one in examples for sequence in one.sequences)


def estimate_updates(
    learner: Learner, step: Sequence[Example], longest: Example, need: Need, *, trained: float, evaluated: float
) -> Estimate:
    """Of a run that trains on and evaluates so many tokens in steps like `step`; no example exceeds `longest`."""
    cost = learner.probe([*step, longest], need)
    return Estimate(
        seconds=cost.seconds_per_token * (trained + FORWARD_SHARE * evaluated), memory_bytes=cost.memory_bytes
    )
