"""What the policy and its reference make of completions: log-probabilities, summed over their tokens or their mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from assent.losses.direct import sequence_logp
from assent.ports.learning import Example, Learner, Need, Outputs
from assent.ports.sampling import Progress, silent
from assent.text.template import Encoded


class Judged(Example, Protocol):
    """Completions after their prompts, and what the reference made of their tokens (None: not asked yet)."""

    @property
    def reference_logp_M(self) -> Tensor | None: ...


SomeJudged = TypeVar("SomeJudged", bound=Judged)


def with_reference(judged: Sequence[SomeJudged], learner: Learner, *, progress: Progress = silent) -> list[SomeJudged]:
    """The same with the log-probabilities of their completions under the policy as it is now.

    A completion that stands in several of them is read once; `progress` counts them as their completions are read.
    """
    uses = Counter(side for one in judged for side in one.sequences)
    sides, read = sorted(uses, key=len), 0
    done = [0, *accumulate(uses[side] for side in sides)]

    def counted(count: int) -> None:
        nonlocal read
        progress(len(judged) * done[read + count] // done[-1] - len(judged) * done[read] // done[-1])
        read += count

    logps = read_once(sides, learner, progress=counted)
    found: list[Any] = [  # of a dataclass with this field
        replace(one, reference_logp_M=torch.cat([logps[side] for side in one.sequences]))  # type: ignore[type-var]
        for one in judged
    ]
    return found


def read_once(sides: Sequence[Encoded], learner: Learner, *, progress: Progress = silent) -> dict[Encoded, Tensor]:
    """The log-probabilities of the tokens of different completions, under the policy as it is now."""
    scored = learner.score(sides, Need(), progress=progress)
    return {side: outputs["logp"] for side, outputs in zip(sides, scored, strict=True)}


def outputs_now(judged: Sequence[Judged], learner: Learner) -> Outputs:
    """The log-probabilities of all completions, without training and in float64; equal completions are read once."""
    now = [one.reference_logp_M for one in with_reference(judged, learner)]
    return Outputs(columns={"logp": torch.cat([logp_M.double() for logp_M in now if logp_M is not None])})


def completion_logps(outputs: Outputs, judged: Sequence[Judged], *, average: bool = False) -> Tensor:
    """log pi of every completion (B): summed over tokens, or their mean."""
    return _of_each(outputs["logp"], judged, average=average)


def log_ratios(outputs: Outputs, judged: Sequence[Judged], *, average: bool = False) -> Tensor:
    """log pi - log ref of every completion (B): summed over tokens, or their mean."""
    logp_M = outputs["logp"]
    reference_M = torch.cat([one.reference_logp_M for one in judged if one.reference_logp_M is not None])
    return _of_each(logp_M - reference_M.to(logp_M.device), judged, average=average)


def _of_each(value_M: Tensor, judged: Sequence[Judged], *, average: bool) -> Tensor:
    lengths = [side.predicted for one in judged for side in one.sequences]
    return sequence_logp(value_M, torch.ones_like(value_M, dtype=torch.bool), lengths, average=average)
