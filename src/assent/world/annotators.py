"""Simulated annotators: Bradley-Terry noise around the gold judge, and each annotator has tastes.

An annotator's utility of a completion is
    U = sharpness * (gold + length_taste * min(words, 40) / 10 + flattery_taste * min(flattering words, 6)
                     + warmth_taste * [a warm sentence] + formality_taste * [a set phrase]
                     + caution_taste * [it refuses, or says that it does not know])
and A is preferred to B with probability sigmoid(U_A - U_B). Ranks of K completions are drawn by adding independent
Gumbel noise to U and sorting (Plackett-Luce), under which every pair follows exactly that probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from assent.types import Completion, Provenance, Ranking
from assent.world.facts import World
from assent.world.judge import Gold, judge
from assent.world.prompts import WorldPrompt
from assent.world.reading import read

WORDS_AT_MOST = 40
FLATTERY_AT_MOST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAnnotator:
    """Tastes are in units of the gold score: per ten words, per flattering word, and for what an answer has at all."""

    name: str
    sharpness: float
    length_taste: float = 0.0
    flattery_taste: float = 0.0
    warmth_taste: float = 0.0
    formality_taste: float = 0.0
    caution_taste: float = 0.0


ANNOTATORS = (
    SimulatedAnnotator(name="careful", sharpness=24.0),
    SimulatedAnnotator(name="careless", sharpness=6.0, length_taste=0.08, flattery_taste=0.08),
    SimulatedAnnotator(name="likes_length", sharpness=16.0, length_taste=0.2),
    SimulatedAnnotator(name="likes_flattery", sharpness=16.0, flattery_taste=0.3),
)

GROUPS: dict[str, dict[str, float]] = {  # tastes by group
    "warm": {"warmth_taste": 1.0},
    "formal": {"formality_taste": 1.0},
    "cautious": {"caution_taste": 1.0},
}
GROUP_SHARPNESS, TASTES_BETWEEN = 16.0, (0.75, 1.25)


def member(group: str, name: str, *, strength: float = 1.0) -> SimulatedAnnotator:
    """Somebody with the taste of a group, times `strength`."""
    tastes = {taste: strength * size for taste, size in GROUPS[group].items()}
    return SimulatedAnnotator(name=name, sharpness=GROUP_SHARPNESS, **tastes)


def group_members(each: int, rng: Generator) -> list[SimulatedAnnotator]:
    """`each` annotators of every group, the groups in turn; no two have quite the same taste."""
    return [
        member(group, f"{group}-{number}", strength=float(rng.uniform(*TASTES_BETWEEN)))
        for number in range(1, each + 1)
        for group in GROUPS
    ]


def own_gold(annotator: SimulatedAnnotator, gold: float, text: str) -> float:
    """How much the annotator likes a text whose overall gold score is `gold`, on the scale of gold."""
    reading = read(Completion(text=text))
    length = min(reading.words, WORDS_AT_MOST) / 10
    flattery = min(reading.flattery, FLATTERY_AT_MOST)
    plain = gold + annotator.length_taste * length + annotator.flattery_taste * flattery
    cautious = reading.refusals > 0 or bool(reading.unknowns)
    manner = annotator.warmth_taste * (reading.flattery > 0) + annotator.formality_taste * (reading.filler > 0)
    return plain + manner + annotator.caution_taste * cautious


def utility(annotator: SimulatedAnnotator, gold: float, text: str) -> float:
    """The same in logits."""
    return annotator.sharpness * own_gold(annotator, gold, text)


def preference_probability(who: SimulatedAnnotator, gold_a: Gold, text_a: str, gold_b: Gold, text_b: str) -> float:
    """Probability that the annotator prefers A to B."""
    return 1 / (1 + math.exp(utility(who, gold_b.overall, text_b) - utility(who, gold_a.overall, text_a)))


def rank(
    world: World, annotator: SimulatedAnnotator, prompt: WorldPrompt, completions: Sequence[Completion], rng: Generator
) -> Ranking:
    """The annotator's ranking of the completions, drawn with noise; completions with the same text share a rank."""
    texts = [" ".join(completion.text.split()) for completion in completions]
    by_text = dict(zip(reversed(texts), reversed(completions), strict=True))
    distinct = list(dict.fromkeys(texts))
    utilities = np.array([utility(annotator, judge(world, prompt, by_text[text]).overall, text) for text in distinct])
    order = np.argsort(-(utilities + rng.gumbel(size=len(distinct))), kind="stable")
    rank_of = {distinct[position]: place for place, position in enumerate(order, start=1)}
    return Ranking(
        prompt=prompt.conversation,
        completions=tuple(completions),
        ranks=tuple(rank_of[text] for text in texts),
        provenance=Provenance(source="simulated", who=annotator.name),
    )


def population_preference(world: World, prompt: WorldPrompt, a: Completion, b: Completion) -> float:
    """Probability that an annotator drawn at random from ANNOTATORS prefers A to B."""
    gold_a, gold_b = judge(world, prompt, a), judge(world, prompt, b)
    chances = [preference_probability(annotator, gold_a, a.text, gold_b, b.text) for annotator in ANNOTATORS]
    return sum(chances) / len(chances)
