"""What a reward model's head reads of many completions: laid out once, read batch by batch, in any process.

Completions of one prompt stand in one tree (`model/prefix_trees.py`), so prompts and equal beginnings are read once. An
encoder sees every completion whole and reads them one by one, as does a model whose rotary frequencies depend on the
length. The batches do not depend on who reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from assent.data.order import token_budget_batches
from assent.model.body import is_causal
from assent.model.flat import flatten
from assent.model.prefix_trees import Tree, flatten_trees, tree_of
from assent.model.roles import ScalarRole
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation

Features = npt.NDArray[np.float32]
MOST_TOKENS = 8192  # in a batch


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBatch:
    """Trees (or, for encoders, single sequences) and the places of their completions, in their order."""

    trees: tuple[Tree, ...] = ()
    sequences: tuple[tuple[int, ...], ...] = ()
    places: tuple[int, ...]


def feature_batches(
    role: ScalarRole, template: ChatTemplate, prompts: Sequence[Conversation], completions: Sequence[Completion]
) -> list[FeatureBatch]:
    """All completions laid out, the longest trees last; equal prompts share a tree wherever they stand."""
    encoded = [one.ids for one in template.encode_completions(list(zip(prompts, completions, strict=True)))]
    members: dict[Conversation, list[int]] = {}
    for place, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(place)
    return batches_of(role, encoded, list(members.values()))


def batches_of(
    role: ScalarRole,
    sequences: Sequence[tuple[int, ...]],
    groups: Sequence[Sequence[int]],
    most_tokens: int = MOST_TOKENS,
) -> list[FeatureBatch]:
    """Sequences laid out; those of a group (by their places) share a tree."""
    if role.reads_first_token or not is_causal(role.body.model) or role.body.steady_length is not None:
        order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
        parts = token_budget_batches([len(sequences[place]) for place in order], most_tokens)
        chosen = [tuple(order[position] for position in part) for part in parts]
        return [FeatureBatch(sequences=tuple(sequences[place] for place in part), places=part) for part in chosen]
    planted = [(tree_of([role.read_part(sequences[place]) for place in group]), group) for group in groups]
    planted.sort(key=lambda one: len(one[0]))
    return [
        FeatureBatch(
            trees=tuple(planted[position][0] for position in part),
            places=tuple(place for position in part for place in planted[position][1]),
        )
        for part in token_budget_batches([len(tree) for tree, _ in planted], most_tokens)
    ]


def read_features(role: ScalarRole, batch: FeatureBatch) -> Features:
    """What the head reads of the batch's completions, one row each."""
    role.body.model.eval()
    flat = flatten_trees(batch.trees) if batch.trees else flatten(batch.sequences)
    with torch.inference_mode():
        found_BH = role.features(flat.to(role.body.device)).float().cpu().numpy()
    return np.asarray(found_BH, np.float32)
