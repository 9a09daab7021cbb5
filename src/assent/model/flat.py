"""Flat batches: the tokens of B sequences in one row, no padding anywhere.

Legend: N tokens of all sequences, B sequences, M positions whose next token is to be predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatBatch:
    """Token ids (N), their positions inside their sequence (N), and the lengths of the B sequences.

    `predict_M` indexes the row where a next token is predicted and `target_M` holds that next token;
    `predicted` says how many of them each sequence has. `last_B` indexes each sequence's last token.

    In a batch of prefix trees (`prefix_trees.py`) `lengths` are those of the trees and a position is a depth. `ends_N`
    holds, for each token, the place behind the last token that continues it, counted from its tree's first token.
    """

    ids_N: Tensor
    position_N: Tensor
    lengths: tuple[int, ...]
    predict_M: Tensor
    target_M: Tensor
    predicted: tuple[int, ...]
    last_B: Tensor
    ends_N: Tensor | None = None

    def to(self, device: torch.device) -> FlatBatch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, **moved, ends_N=None if self.ends_N is None else self.ends_N.to(device))

    def evened(self) -> FlatBatch:
        """The same batch with sequences of one token behind it that nobody reads, up to an even number of tokens."""
        tokens = self.ids_N.shape[0]
        spare = even(tokens) - tokens
        if not spare:
            return self
        return replace(
            self,
            ids_N=pad(self.ids_N, (0, spare)),
            position_N=pad(self.position_N, (0, spare)),
            lengths=(*self.lengths, *(1,) * spare),
            ends_N=None if self.ends_N is None else pad(self.ends_N, (0, spare), value=1),
        )


def even(count: int) -> int:
    """The next of the few numbers of rows, 16 in every doubling, that bf16 products on a CPU are made for.

    oneDNN prepares a product for every number of rows and keeps it (0.7 MiB, measured).
    """
    step = 1 << max(0, count.bit_length() - 5)
    return -(-count // step) * step


_TENSORS = ("ids_N", "position_N", "predict_M", "target_M", "last_B")


def flatten(sequences: Sequence[Sequence[int]], targets: Sequence[Sequence[bool]] | None = None) -> FlatBatch:
    """Lay sequences into one row; `targets` marks the tokens to be predicted (default: all but the first).

    The first token of a sequence has nothing before it and is never predicted.
    """
    lengths = tuple(len(sequence) for sequence in sequences)
    assert all(lengths), "a flat batch holds no empty sequence"
    ids: list[int] = []
    positions: list[int] = []
    predict: list[int] = []
    predicted: list[int] = []
    start = 0
    for index, sequence in enumerate(sequences):
        ids.extend(sequence)
        positions.extend(range(len(sequence)))
        wanted = targets[index] if targets is not None else [True] * len(sequence)
        chosen = [start + offset - 1 for offset in range(1, len(sequence)) if wanted[offset]]
        predict.extend(chosen)
        predicted.append(len(chosen))
        start += len(sequence)
    ids_N = torch.tensor(ids, dtype=torch.long)
    predict_M = torch.tensor(predict, dtype=torch.long)
    return FlatBatch(
        ids_N=ids_N,
        position_N=torch.tensor(positions, dtype=torch.long),
        lengths=lengths,
        predict_M=predict_M,
        target_M=ids_N[predict_M + 1] if predict else predict_M,
        predicted=tuple(predicted),
        last_B=torch.tensor(lengths, dtype=torch.long).cumsum(0) - 1,
    )
