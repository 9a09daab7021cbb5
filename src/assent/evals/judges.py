"""Judges: from the scores of two completions to the probability that one is better, and the embedded world's own.

Bradley and Terry (1952): P(first is better) = sigmoid(r_first - r_second).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from assent.errors import DataError, RunError
from assent.evals.intervals import finite
from assent.ports.judging import Judge
from assent.ports.sampling import Scorer
from assent.types import Completion, Conversation
from assent.world.facts import World
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt


def bradley_terry(scores: ArrayLike, against: ArrayLike) -> list[float]:
    """P(the first is better) of paired scores."""
    first_N, second_N = finite(scores, "scores"), finite(against, "scores")
    if len(first_N) != len(second_N):
        raise DataError(f"paired scores differ in number: {len(first_N)} and {len(second_N)}")
    half_N = np.tanh((first_N - second_N) / 2) / 2  # sigmoid(x) = 1/2 + tanh(x/2)/2, and no exp overflows
    return [float(value) for value in 0.5 + half_N]


class ScoreJudge:
    """Prefers what a reward model, or anything else that scores, scores higher."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def prefer(
        self, prompts: Sequence[Conversation], first: Sequence[Completion], second: Sequence[Completion]
    ) -> list[float]:
        """The Bradley-Terry probabilities of the scores."""
        scores = (self.scorer.score(prompts, texts) for texts in (first, second))
        return bradley_terry(*scores) if prompts else []


class JudgeScorer:
    """A judge as a `Scorer`: how likely it prefers a completion to the others of its prompt, on average.

    Every pair of a prompt is compared once. A completion without another one to its prompt cannot be scored.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """The mean probabilities of winning. Raises RunError where a completion stands alone."""
        places: dict[Conversation, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append(place)
        if alone := next((prompt for prompt, group in places.items() if len(group) < 2), None):
            what, now = "a judge compares, and there is one completion", "Set samples_per_prompt to 2 or more."
            raise RunError(what, where=f'prompt "{alone.last_user_text[:40]}"', now=now)
        pairs = [pair for group in places.values() for pair in combinations(group, 2)]
        chances = self.judge.prefer(
            [prompts[first] for first, _ in pairs], *([completions[pair[side]] for pair in pairs] for side in (0, 1))
        )
        won = [0.0] * len(completions)
        for (first, second), chance in zip(pairs, chances, strict=True):
            won[first] += chance
            won[second] += 1 - chance
        return [won[place] / (len(places[prompt]) - 1) for place, prompt in enumerate(prompts)]


class GoldJudge:
    """The embedded world's own judge, which is never in doubt: 1 for the better one, 0 for the other, 0.5 for a tie."""

    def __init__(self, world: World, prompts: Sequence[WorldPrompt]) -> None:
        self._world, self._prompts = world, {prompt.conversation: prompt for prompt in prompts}

    def prefer(
        self, prompts: Sequence[Conversation], first: Sequence[Completion], second: Sequence[Completion]
    ) -> list[float]:
        """By helpful, honest and harmless, their mean. Raises DataError for a prompt that is not one of its own."""
        if strange := next((prompt for prompt in prompts if prompt not in self._prompts), None):
            raise DataError("the gold judge knows only prompts of its world", where=repr(strange.last_user_text))
        gold_N, other_N = (
            [judge(self._world, self._prompts[p], c).overall for p, c in zip(prompts, texts, strict=True)]
            for texts in (first, second)
        )
        return [0.5 + 0.5 * float(np.sign(one - other)) for one, other in zip(gold_N, other_N, strict=True)]
