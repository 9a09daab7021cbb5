"""Preference labels of the main job: completions to rank, and what the simulated annotators say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from assent.data.convert import comparisons
from assent.seeds import numpy_rng
from assent.types import Comparison, Completion, Ranking
from assent.world.annotators import ANNOTATORS, population_preference, rank
from assent.world.facts import World
from assent.world.prompts import WorldPrompt


def rank_candidates(
    world: World, prompts: Sequence[WorldPrompt], candidates: Mapping[int, Sequence[Completion]], *, seed: int
) -> list[Ranking]:
    """The simulated annotators rank the completions of the prompts in turn."""
    rng = numpy_rng(seed, "people")
    return [
        rank(world, ANNOTATORS[i % len(ANNOTATORS)], prompt, [candidates[turn][i] for turn in sorted(candidates)], rng)
        for i, prompt in enumerate(prompts)
    ]


def population_pairs(world: World, held_out: Sequence[tuple[WorldPrompt, Ranking]]) -> list[Comparison]:
    """The pairs of held-out rankings, each labelled with the share of the population that prefers the chosen one.

    So accuracy is expected over annotators, and does not depend on one draw of labels.
    """
    prompt_of = {prompt.conversation: prompt for prompt, _ in held_out}
    pairs = comparisons([ranking for _, ranking in held_out], keep_ties=False, margin_per_score=0.0)
    return [
        replace(pair, probability=population_preference(world, prompt_of[pair.prompt], pair.chosen, pair.rejected))
        for pair in pairs
    ]
