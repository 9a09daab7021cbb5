"""A judge as a reward: the share of the others that a completion wins against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from training_jobs import CPU, PROMPTS

import assent
from assent.errors import RunError
from assent.evals.judges import JudgeScorer, ScoreJudge, bradley_terry
from assent.metrics import Metrics
from assent.recipes.run.models import load_language_model
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


def test_online_dpo_learns_from_a_judge(folders: dict[str, Path]) -> None:
    rows: list[Metrics] = []
    assent.online_dpo(
        load_language_model(str(folders["llama"]), machine=CPU), PROMPTS, reward=Shorter(), iterations=12, batch_size=8,
        samples_per_prompt=4, max_tokens=6, learning_rate=3e-3, normalise_prompts=16, schedule="constant",
        missing_eos_penalty=0.0, on_step=rows.append,
    )  # fmt: skip
    assert all(row["reward"] == pytest.approx(0.5) for row in rows), "what one wins another loses"
    assert rows[-1]["length"] < rows[0]["length"] - 0.5
