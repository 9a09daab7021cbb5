"""Completions of one prompt laid out as a tree (`model/prefix_trees.py`), so that a pass reads their prompt once.

A token of a tree looks at all others before a mask hides those of other completions. So a tree saves the products of
the shared tokens and pays with attention: a step of 6 layers is 2.4 times as fast with eight completions of 32 tokens
behind a prompt of 128, 1.2 times with four of 64 behind 32, and slower below the two bounds here. Hidden states and
gradients are those of single sequences, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from assent.model.body import Body, is_causal
from assent.model.flat import FlatBatch, flatten
from assent.model.prefix_trees import flatten_trees, tree_of
from assent.ports.learning import Example
from assent.text.template import Encoded

FEWEST = 4  # completions of a prompt, on average
SAVED = 0.2  # share of all tokens that need not be read


def reads_trees(body: Body) -> bool:
    """Whether trees are right for a network, and of use: on CUDA the kernel for flat rows knows no masks."""
    return is_causal(body.model) and body.steady_length is None and body.device.type == "cpu"


def prompt_of(sequence: Encoded) -> tuple[int, ...]:
    """What stands before the first token that is predicted."""
    mask = sequence.assistant_mask
    return sequence.ids[: mask.index(True) if True in mask else len(mask)]


def share_prompts(sequences: Sequence[Encoded]) -> bool:
    """Whether prompts have enough completions, and are long enough, for trees to be of use."""
    prompts = [prompt_of(one) for one in sequences]
    apart = {*prompts}
    saved = sum(map(len, prompts)) - sum(map(len, apart))
    return len(prompts) >= FEWEST * len(apart) and saved >= SAVED * sum(map(len, sequences))


def shortest_first(examples: Sequence[Example]) -> list[int]:
    """Places of examples of one sequence each: by size or, where they share prompts, prompt by prompt."""
    sequences = [one.sequences[0] for one in examples]
    sizes = [len(one) for one in sequences]
    if not share_prompts(sequences):
        return sorted(range(len(examples)), key=lambda place: sizes[place])
    first: dict[tuple[int, ...], int] = {}
    for place, one in enumerate(sequences):
        first.setdefault(prompt_of(one), place)
    prompts = [prompt_of(one) for one in sequences]
    return sorted(range(len(examples)), key=lambda place: (len(prompts[place]), first[prompts[place]], sizes[place]))


def laid_out(sequences: Sequence[Encoded], *, trees: bool) -> FlatBatch:
    """One row of tokens; sequences of one prompt that stand side by side share it, if `trees` are read."""
    ids, masks = [one.ids for one in sequences], [one.assistant_mask for one in sequences]
    if not trees or not share_prompts(sequences):
        return flatten(ids, masks)
    return flatten_trees([tree_of([one.ids for one in same]) for _, same in groupby(sequences, prompt_of)], masks)
