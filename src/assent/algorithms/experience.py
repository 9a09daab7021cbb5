"""Experience: what one rollout became in the world of tensors, ready for several passes of updates.

Legend: N completion tokens of all samples in one row; a sample's tokens are neighbours. M: those of a selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assent.model.flat import FlatBatch, flatten
from assent.types import Turn

_PER_TOKEN = ("old_logp_N", "value_N", "advantage_N", "return_N")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Samples with what the update needs: old log-probability, old value, advantage and return of every token."""

    sequences: tuple[tuple[int, ...], ...]
    prompt_lengths: tuple[int, ...]
    old_logp_N: Tensor
    value_N: Tensor
    advantage_N: Tensor
    return_N: Tensor

    @property
    def completion_lengths(self) -> list[int]:
        """Tokens written, per sample."""
        return [len(s) - p for s, p in zip(self.sequences, self.prompt_lengths, strict=True)]

    def select(self, samples: Sequence[int]) -> Experience:
        """The chosen samples, in the order given."""
        lengths = self.completion_lengths
        ends = torch.tensor(lengths).cumsum(0).tolist()
        index_M = torch.cat([torch.arange(ends[s] - lengths[s], ends[s]) for s in samples])
        return Experience(
            sequences=tuple(self.sequences[s] for s in samples),
            prompt_lengths=tuple(self.prompt_lengths[s] for s in samples),
            **{name: getattr(self, name)[index_M] for name in _PER_TOKEN},
        )

    def tree(self) -> dict[str, Any]:
        """For a checkpoint between rollout and update."""
        lengths = [len(sequence) for sequence in self.sequences]
        ids = torch.tensor([token for sequence in self.sequences for token in sequence])
        tensors = {name: getattr(self, name) for name in _PER_TOKEN}
        return {"ids": ids, "lengths": lengths, "prompt_lengths": list(self.prompt_lengths), **tensors}

    @staticmethod
    def from_tree(tree: dict[str, Any]) -> Experience:
        """The reverse of `tree`."""
        return Experience(
            sequences=tuple(tuple(part.tolist()) for part in tree["ids"].split(tree["lengths"])),
            prompt_lengths=tuple(tree["prompt_lengths"]),
            **{name: tree[name] for name in _PER_TOKEN},
        )


def flat_turns(turns: Sequence[Turn]) -> FlatBatch:
    """Prompts and completions in one row; every completion token is predicted."""
    return flat_sequences(
        [turn.prompt_ids + turn.completion_ids for turn in turns], [len(turn.prompt_ids) for turn in turns]
    )


def flat_sequences(sequences: Sequence[tuple[int, ...]], prompt_lengths: Sequence[int]) -> FlatBatch:
    """As `flat_turns`, from token ids."""
    marks = [[False] * p + [True] * (len(s) - p) for s, p in zip(sequences, prompt_lengths, strict=True)]
    return flatten(sequences, marks)
