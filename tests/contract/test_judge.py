"""What every Judge promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from constitution.scripted import ScriptedModel
from fakes import LengthScorer

from assent.constitution.chat_model import Written
from assent.constitution.comparison import JudgingPlan, PrincipleJudge
from assent.constitution.constitution_file import default_path, load_constitution
from assent.errors import DataError
from assent.evals.judges import GoldJudge, ScoreJudge, bradley_terry
from assent.ports.generation import GenerationRequest
from assent.ports.judging import Judge
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import new_reward_model
from assent.types import Completion, Conversation
from assent.world.facts import build_world
from assent.world.prompts import make_prompts

WORLD = build_world(0)
WORLD_PROMPTS = make_prompts(WORLD, split="held_out", count=8, seed=0)
PROMPTS = [prompt.conversation for prompt in WORLD_PROMPTS]
FIRST = [Completion(text=prompt.ideal[0]) for prompt in WORLD_PROMPTS]
SECOND = [Completion(text=text) for text in ("no", "red and blue", "", "yes yes yes", "maybe", "four", "a b", "c")]


def reward_judge(folders: dict[str, Path]) -> Judge:
    return ScoreJudge(new_reward_model(str(folders["llama"]), machine=MachineOptions(device="cpu"), seed=3).scorer)


def letters_by_length(request: GenerationRequest) -> Written:
    """A is likelier the longer what stands as A is, beside what stands as B, and a little likelier anyway."""
    a, b = request.prompt.messages[-1].content.split("\n(A) ")[1].split("\n\n(B) ")
    p = 1 / (1 + math.exp(min(5.0, len(b.rsplit("\n\n", 1)[0]) / 9 - len(a) / 9 - 0.5)))
    return Written(text="A", likeliest=({"A": math.log(p), "B": math.log(1 - p)},))


JUDGES: dict[str, Callable[[dict[str, Path]], Judge]] = {
    "reward model": reward_judge,
    "any scorer": lambda folders: ScoreJudge(LengthScorer()),
    "principles": lambda folders: PrincipleJudge(
        ScriptedModel(letters_by_length), load_constitution(default_path()), JudgingPlan(few_shots=0)
    ),
    "gold": lambda folders: GoldJudge(WORLD, WORLD_PROMPTS),
}
every_judge = pytest.mark.parametrize("name", JUDGES)


@every_judge
def test_there_is_a_probability_for_each_prompt_and_swapping_gives_the_other_one(
    name: str, folders: dict[str, Path]
) -> None:
    judge = JUDGES[name](folders)
    there = judge.prefer(PROMPTS, FIRST, SECOND)
    assert len(there) == 8 and all(isinstance(p, float) and 0.0 <= p <= 1.0 for p in there)
    back = judge.prefer(PROMPTS, SECOND, FIRST)
    assert [p + q for p, q in zip(there, back, strict=True)] == pytest.approx([1.0] * 8)
    assert judge.prefer(PROMPTS, FIRST, FIRST) == [0.5] * 8
    assert judge.prefer([], [], []) == []


@every_judge
def test_a_preference_belongs_to_its_prompt_whatever_stands_beside_it(name: str, folders: dict[str, Path]) -> None:
    judge = JUDGES[name](folders)
    together = judge.prefer(PROMPTS, FIRST, SECOND)
    for place in (0, 5):
        alone = judge.prefer(*([column[place]] for column in (PROMPTS, FIRST, SECOND)))
        assert alone == pytest.approx([together[place]], abs=1e-5)


def test_scores_become_bradley_terry_probabilities_however_far_apart() -> None:
    found = bradley_terry([1.0, 0.0, 3.0, 800.0, -800.0], [0.0, 1.0, 3.0, -800.0, 800.0])
    assert found == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1)), 0.5, 1.0, 0.0])
    with pytest.raises(DataError, match="differ in number: 2 and 1"):
        bradley_terry([1.0, 2.0], [1.0])


def test_the_gold_judge_is_never_in_doubt_and_knows_only_its_own_prompts() -> None:
    judge = GoldJudge(WORLD, WORLD_PROMPTS)
    assert judge.prefer(PROMPTS, FIRST, SECOND) == [1.0] * 8, "the ideal answer is better than a few words"
    with pytest.raises(DataError, match="only prompts of its world"):
        judge.prefer([Conversation.of_user("Who are you?")], FIRST[:1], SECOND[:1])
