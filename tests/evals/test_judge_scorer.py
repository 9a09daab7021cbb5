"""A judge as a reward: the share of the others that a completion wins against."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from training_jobs import PROMPTS

from assent.errors import RunError
from assent.evals.judges import JudgeScorer, ScoreJudge, bradley_terry
from assent.types import Completion, Conversation


class Shorter:
    """Prefers the shorter of two, and is never in doubt."""

    def prefer(
        self, prompts: Sequence[Conversation], first: Sequence[Completion], second: Sequence[Completion]
    ) -> list[float]:
        lengths = [(len(a.text), len(b.text)) for a, b in zip(first, second, strict=True)]
        return [0.5 + 0.5 * ((a < b) - (a > b)) for a, b in lengths]


class Lengths:
    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        return [float(len(one.text)) for one in completions]


def test_a_completion_is_scored_against_the_others_of_its_prompt_alone() -> None:
    texts = ["a", "bb", "ccc", "dddd", "e"]
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    completions = [Completion(text=text) for text in texts]
    assert JudgeScorer(Shorter()).score(prompts, completions) == [0.75, 1.0, 0.0, 0.0, 0.75]
    found = JudgeScorer(ScoreJudge(Lengths())).score(prompts, completions)
    (less,) = bradley_terry([2.0], [4.0])
    assert found[1] == pytest.approx(less) and found[3] == pytest.approx(1 - less)
    assert sum(found) == pytest.approx(len(texts) / 2)


def test_a_completion_without_another_is_refused() -> None:
    with pytest.raises(RunError, match="compares"):
        JudgeScorer(Shorter()).score(PROMPTS[:2], [Completion(text="a"), Completion(text="b")])
