"""How examples lie in a batch: sequence by sequence, or as prefix trees where an example's sequences share enough.

Both answers of a pair and all of a ranking follow one prompt. In a tree it is read once, with one gradient for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from assent.model.flat import FlatBatch, flatten
from assent.model.prefix_trees import Tree, flatten_trees, tree_of
from assent.ports.learning import Example

_WORTH_FROM = 0.1  # share of tokens that a tree saves; below it, its mask costs more


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOut:
    """An example and the tree of its sequences, if it is read as one."""

    example: Example
    tree: Tree | None

    @staticmethod
    def of(example: Example, *, trees: bool, read_part: Callable[[Sequence[int]], Sequence[int]]) -> LaidOut:
        """`trees`: whether the model can read trees; `read_part`: a sequence up to the last token that is read."""
        if not trees or len(example.sequences) == 1:
            return LaidOut(example=example, tree=None)
        tree = tree_of([read_part(sequence.ids) for sequence in example.sequences])
        worth = len(tree) <= (1 - _WORTH_FROM) * sum(map(len, example.sequences))
        return LaidOut(example=example, tree=tree if worth else None)

    def __len__(self) -> int:
        return sum(map(len, self.example.sequences)) if self.tree is None else len(self.tree)


def predicting(run: Sequence[LaidOut]) -> FlatBatch:
    """The batch in which the assistant's tokens are predicted, in the order of the sequences."""
    sequences = [sequence for one in run for sequence in one.example.sequences]
    if all(one.tree is None for one in run):
        return flatten([one.ids for one in sequences], [one.assistant_mask for one in sequences])
    trees = [one.tree or tree_of([sequence.ids for sequence in one.example.sequences]) for one in run]
    return flatten_trees(trees, [one.assistant_mask for one in sequences])


def judged(run: Sequence[LaidOut], read_part: Callable[[Sequence[int]], Sequence[int]]) -> tuple[FlatBatch, list[int]]:
    """The batch whose sequences a head reads, and the order in which their outputs are those of the sequences."""
    sequences = [sequence.ids for one in run for sequence in one.example.sequences]
    if any(one.tree is not None for one in run):
        parts = [[read_part(sequence.ids) for sequence in one.example.sequences] for one in run]
        trees = [one.tree or tree_of(part) for one, part in zip(run, parts, strict=True)]
        return flatten_trees(trees), list(range(len(sequences)))
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    batch = flatten([sequences[place] for place in order], [[False] * len(sequences[place]) for place in order])
    return batch, torch.tensor(order).argsort().tolist()
