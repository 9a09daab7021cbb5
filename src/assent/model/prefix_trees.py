"""Sequences with common prefixes as trees, so that a shared prefix is computed once.

The completions of one prompt share the prompt, and often their first words. The sorted sequences of a group form one
row, depth first: each adds only the tokens that the one before it does not have. Token i of a tree sees token j iff j
<= i < end of j, where the end of j is the place behind the last token that continues j. The position of a token is its
depth. So every token has the same hidden state as in its sequence alone. For causal trunks only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from assent.model.flat import FlatBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One group: token ids, depths and ends by place, and the places of the tokens of every sequence."""

    ids: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def last(self) -> tuple[int, ...]:
        """The place of the last token of every sequence."""
        return tuple(one[-1] for one in self.places)

    def __len__(self) -> int:
        return len(self.ids)


def tree_of(sequences: Sequence[Sequence[int]]) -> Tree:
    """The tree of a group's sequences, none of them empty; `places` is in their order."""
    ids: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    path: list[int] = []  # places of the tokens of the sequence before
    places: list[tuple[int, ...]] = [()] * len(sequences)
    before: Sequence[int] = ()
    for index in sorted(range(len(sequences)), key=lambda index: tuple(sequences[index])):
        sequence = sequences[index]
        assert sequence, "a tree holds no empty sequence"
        shared = 0
        for known, token in zip(before, sequence, strict=False):
            if known != token:
                break
            shared += 1
        for place in path[shared:]:
            ends[place] = len(ids)
        del path[shared:]
        fresh = range(len(ids), len(ids) + len(sequence) - shared)
        ids.extend(sequence[shared:])
        depths.extend(range(shared, len(sequence)))
        ends.extend(0 for _ in fresh)
        path.extend(fresh)
        places[index], before = tuple(path), sequence
    for place in path:
        ends[place] = len(ids)
    return Tree(ids=tuple(ids), depths=tuple(depths), ends=tuple(ends), places=tuple(places))


def flatten_trees(trees: Sequence[Tree], targets: Sequence[Sequence[bool]] = ()) -> FlatBatch:
    """One flat batch of trees; `last_B` and what is predicted run over the sequences of all of them in order.

    `targets` marks the tokens of each sequence to be predicted (default: none); the first of a sequence never is.
    """
    last: list[int] = []
    predict: list[int] = []
    target: list[int] = []
    predicted: list[int] = []
    start, wanted = 0, iter(targets)
    for tree in trees:
        last.extend(start + place for place in tree.last)
        for places in tree.places:
            mask = next(wanted, ())
            chosen = [depth for depth in range(1, len(mask)) if mask[depth]]
            predict.extend(start + places[depth - 1] for depth in chosen)
            target.extend(tree.ids[places[depth]] for depth in chosen)
            predicted.append(len(chosen))
        start += len(tree)
    return FlatBatch(
        ids_N=torch.tensor([token for tree in trees for token in tree.ids], dtype=torch.long),
        position_N=torch.tensor([depth for tree in trees for depth in tree.depths], dtype=torch.long),
        lengths=tuple(len(tree) for tree in trees),
        predict_M=torch.tensor(predict, dtype=torch.long),
        target_M=torch.tensor(target, dtype=torch.long),
        predicted=tuple(predicted),
        last_B=torch.tensor(last, dtype=torch.long),
        ends_N=torch.tensor([end for tree in trees for end in tree.ends], dtype=torch.long),
    )
