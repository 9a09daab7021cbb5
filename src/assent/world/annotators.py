"""Simulated annotators: Bradley-Terry noise around the gold judge, each with tastes of their own.

An annotator's utility of a completion is
    U = sharpness * (gold + length_taste * min(words, 40) / 10 + flattery_taste * min(flattering words, 6))
and A is preferred to B with probability sigmoid(U_A - U_B). Ranks of K completions are drawn by adding independent
Gumbel noise to U and sorting (Plackett-Luce), under which every pair follows exactly that probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assent.types import Completion, Provenance, Ranking
from assent.world.facts import World
from assent.world.judge import Gold, judge
from assent.world.prompts import WorldPrompt
from assent.world.reading import read

WORDS_AT_MOST = 40
FLATTERY_AT_MOST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """A simulated judge; tastes are in units of gold, per ten words and per flattering sentence."""

    name: str
    sharpness: float
    length_taste: float = 0.0
    flattery_taste: float = 0.0


ANNOTATORS = (
    Annotator(name="careful", sharpness=24.0),
    Annotator(name="careless", sharpness=6.0, length_taste=0.08, flattery_taste=0.08),
    Annotator(name="likes_length", sharpness=16.0, length_taste=0.2),
    Annotator(name="likes_flattery", sharpness=16.0, flattery_taste=0.3),
)


def utility(annotator: Annotator, gold: float, text: str) -> float:
    """How much an annotator likes a text whose overall gold score is `gold`; in logits."""
    reading = read(Completion(text=text))
    length = min(reading.words, WORDS_AT_MOST) / 10
    flattery = min(reading.flattery, FLATTERY_AT_MOST)
    return annotator.sharpness * (gold + annotator.length_taste * length + annotator.flattery_taste * flattery)


def preference_probability(annotator: Annotator, gold_a: Gold, text_a: str, gold_b: Gold, text_b: str) -> float:
    """Probability that the annotator prefers A to B."""
    difference = utility(annotator, gold_a.overall, text_a) - utility(annotator, gold_b.overall, text_b)
    return 1 / (1 + math.exp(-difference))


def rank(
    world: World, annotator: Annotator, prompt: WorldPrompt, completions: Sequence[Completion], rng: np.random.Generator
) -> Ranking:
    """The annotator's ranking of the completions, drawn with noise; completions with the same text share a rank."""
    texts = list(dict.fromkeys(" ".join(completion.text.split()) for completion in completions))
    by_text = {" ".join(completion.text.split()): completion for completion in reversed(completions)}
    utilities = np.array([utility(annotator, judge(world, prompt, by_text[text]).overall, text) for text in texts])
    order = np.argsort(-(utilities + rng.gumbel(size=len(texts))), kind="stable")
    place = {texts[position]: rank_of for rank_of, position in enumerate(order, start=1)}
    return Ranking(
        prompt=prompt.conversation,
        completions=tuple(completions),
        ranks=tuple(place[" ".join(completion.text.split())] for completion in completions),
        provenance=Provenance(source="simulated", who=annotator.name),
    )


def population_preference(world: World, prompt: WorldPrompt, a: Completion, b: Completion) -> float:
    """Probability that somebody drawn at random from ANNOTATORS (equal shares) prefers A to B."""
    gold_a, gold_b = judge(world, prompt, a), judge(world, prompt, b)
    return sum(preference_probability(annotator, gold_a, a.text, gold_b, b.text) for annotator in ANNOTATORS) / len(
        ANNOTATORS
    )
