"""Pairs of completions as tokens, and what the policy made of them before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from assent.algorithms.fitting import Sized, leave_out_long
from assent.losses.direct import sequence_log_ratio
from assent.ports.learning import Learner, Need, Outputs
from assent.ports.sampling import Progress, silent
from assent.text.template import ChatTemplate, Encoded
from assent.types import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPair:
    """Tokens of both completions after their prompt, P(chosen is better), and the judgement the pair is part of.

    `reference_logp_M`: the reference's log-probabilities of the completions' tokens (chosen, then rejected).
    """

    chosen: Encoded
    rejected: Encoded
    probability: float
    group: Hashable
    reference_logp_M: Tensor | None = None

    @property
    def sequences(self) -> tuple[Encoded, Encoded]:
        """Both sides: they stay in one micro-batch."""
        return self.chosen, self.rejected


def encode_pairs(comparisons: Sequence[Comparison], template: ChatTemplate, *, max_length: int) -> Sized[EncodedPair]:
    """Encode comparisons; a pair with an over-long side is left out."""
    flat = template.encode_completions([(c.prompt, side) for c in comparisons for side in (c.chosen, c.rejected)])
    pairs = [
        EncodedPair(
            chosen=flat[2 * index],
            rejected=flat[2 * index + 1],
            probability=comparison.probability,
            group=(comparison.group, comparison.prompt) if comparison.group else index,
        )
        for index, comparison in enumerate(comparisons)
    ]
    longest = [max(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    return leave_out_long(pairs, longest, max_length=max_length, what="pairs")


def with_reference(pairs: Sequence[EncodedPair], learner: Learner, *, progress: Progress = silent) -> list[EncodedPair]:
    """The pairs with the log-probabilities of their completions under the policy as it is now.

    A completion that stands in several pairs is read once; `progress` counts pairs as their completions are read.
    """
    uses = Counter(side for pair in pairs for side in pair.sequences)
    sides, read = sorted(uses, key=len), 0
    done = [0, *accumulate(uses[side] for side in sides)]

    def counted(count: int) -> None:
        nonlocal read
        progress(done[read + count] // 2 - done[read] // 2)
        read += count

    scored = learner.score(sides, Need(), progress=counted)
    logps = {side: outputs["logp"] for side, outputs in zip(sides, scored, strict=True)}
    return [replace(pair, reference_logp_M=torch.cat([logps[side] for side in pair.sequences])) for pair in pairs]


def log_ratios(outputs: Outputs, pairs: Sequence[EncodedPair], *, average: bool = False) -> tuple[Tensor, Tensor]:
    """log pi - log ref of the chosen and of the rejected completions (P each): summed over tokens, or their mean."""
    logp_M = outputs["logp"]
    reference_M = torch.cat([pair.reference_logp_M for pair in pairs if pair.reference_logp_M is not None])
    ratio_B = sequence_log_ratio(
        logp_M,
        reference_M.to(logp_M.device),
        torch.ones_like(logp_M, dtype=torch.bool),
        [side.predicted for pair in pairs for side in pair.sequences],
        average=average,
    )
    return ratio_B[0::2], ratio_B[1::2]
