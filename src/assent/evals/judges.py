"""Judges: from the scores of two completions to the probability that one is better, and the embedded world's own.

Bradley and Terry (1952): P(first is better) = sigmoid(r_first - r_second).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from assent.errors import DataError
from assent.evals.intervals import finite
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
