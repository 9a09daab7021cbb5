"""Sequences with common prefixes as trees, so that a shared prefix is computed once.

The completions of one prompt share the prompt, and often their first words. The sorted sequences of a group form one
row, depth first: each adds only the tokens that the one before it does not have. Token i of a tree sees token j iff j
<= i < end of j, where the end of j is the place behind the last token that continues j. The position of a token is its
depth. So every token has the same hidden state as in its sequence alone. For causal trunks only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from assent.model.flat import FlatBatch

_TREE_TOKENS = 320  # a tree reads its common beginning once more, and every token meets all others of the tree
_WORTH_BELOW = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One group: token ids, depths and ends by place, and the places of the tokens of every sequence."""

    ids: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]

    @property
    def last(self) -> tuple[int, ...]:
        """The place of the last token of every sequence."""
        return tuple(path[-1] for path in self.paths)

    def __len__(self) -> int:
        return len(self.ids)


def tree_of(sequences: Sequence[Sequence[int]]) -> Tree:
    """The tree of a group's sequences, none of them empty; `paths` are in their order."""
    ids: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    path: list[int] = []  # places of the tokens of the sequence before
    paths: list[tuple[int, ...]] = [()] * len(sequences)
    before: Sequence[int] = ()
    for index in sorted(range(len(sequences)), key=lambda index: tuple(sequences[index])):
        sequence = sequences[index]
        assert sequence, "a tree holds no empty sequence"
        shared = common_beginning(before, sequence)
        for place in path[shared:]:
            ends[place] = len(ids)
        del path[shared:]
        fresh = range(len(ids), len(ids) + len(sequence) - shared)
        ids.extend(sequence[shared:])
        depths.extend(range(shared, len(sequence)))
        ends.extend(0 for _ in fresh)
        path.extend(fresh)
        paths[index], before = tuple(path), sequence
    for place in path:
        ends[place] = len(ids)
    return Tree(ids=tuple(ids), depths=tuple(depths), ends=tuple(ends), paths=tuple(paths))


def common_beginning(before: Sequence[int], sequence: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    differ = (place for place, (one, other) in enumerate(zip(before, sequence, strict=False)) if one != other)
    return next(differ, min(len(before), len(sequence)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedReading:
    """Sequences with common beginnings in one flat row: the places of the last token and of all tokens of each."""

    batch: FlatBatch
    last_B: Tensor
    paths: tuple[Tensor, ...]


def shared_reading(sequences: Sequence[Sequence[int]]) -> SharedReading | None:
    """The sequences as trees of neighbours in sorted order, or None where that saves less than a quarter of the tokens.

    A tree's attention is quadratic in its tokens, so a new one begins where the old one would have too many: more than
    `_TREE_TOKENS`, or three times its first sequence.
    """
    order = sorted(range(len(sequences)), key=lambda index: tuple(sequences[index]))
    parts: list[list[int]] = []
    sizes: list[int] = []
    for before, index in zip([-1, *order], order, strict=False):
        whole = len(sequences[index])
        fresh = whole - common_beginning(sequences[before], sequences[index]) if parts else whole
        if parts and sizes[-1] + fresh <= max(_TREE_TOKENS, 3 * len(sequences[parts[-1][0]])):
            parts[-1].append(index)
            sizes[-1] += fresh
        else:
            parts.append([index])
            sizes.append(whole)
    if sum(sizes) > _WORTH_BELOW * sum(map(len, sequences)):
        return None
    trees = [tree_of([sequences[index] for index in part]) for part in parts]
    starts = accumulate(sizes, initial=0)
    placed = {
        index: torch.tensor(path) + start
        for part, tree, start in zip(parts, trees, starts, strict=False)
        for index, path in zip(part, tree.paths, strict=True)
    }
    paths = tuple(placed[index] for index in range(len(sequences)))
    return SharedReading(batch=flatten_trees(trees), last_B=torch.stack([path[-1] for path in paths]), paths=paths)


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
        for places in tree.paths:
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
