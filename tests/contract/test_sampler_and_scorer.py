"""What every Sampler and every Scorer promises; the fakes promise it too."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import LengthScorer, WordSampler
from small_models import body_of, causal_lm

from assent.backends.local.sampler import LocalSampler
from assent.errors import DataError, RunError
from assent.model.roles import LanguageRole
from assent.ports.sampling import Sampler, Sampling, Scorer
from assent.recipes.run.models import MachineOptions, new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, StopReason

TEXTS = ("red", "one two three", "what is red ?", "yes", "blue green", "maybe no")
PROMPTS = [Conversation.of_user(text) for text in TEXTS]
SAMPLERS: dict[str, Callable[[ChatTemplate], Sampler]] = {
    "local": lambda template: LocalSampler(LanguageRole(body_of(causal_lm("qwen2"))), template),
    "fake": WordSampler,
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


@every_sampler
def test_there_is_one_turn_per_prompt_in_order(name: str, template: ChatTemplate) -> None:
    done: list[int] = []
    turns = SAMPLERS[name](template).sample(
        PROMPTS, sampling=Sampling(max_tokens=9, batch_size=4), seed=1, progress=done.append
    )
    assert [turn.prompt_ids for turn in turns] == [template.encode_prompt(prompt) for prompt in PROMPTS]
    assert sum(done) == len(PROMPTS)
    for turn in turns:
        assert 1 <= len(turn.completion_ids) == len(turn.logps) <= 9
        assert all(math.isfinite(logp) and logp <= 1e-6 for logp in turn.logps)
        assert turn.completion.text == template.decode(turn.completion_ids)


@every_sampler
def test_a_turn_ends_by_itself_or_is_cut_at_the_limit(name: str, template: ChatTemplate) -> None:
    sampler = SAMPLERS[name](template)
    turns = [turn for seed in range(20) for turn in sampler.sample(PROMPTS, sampling=Sampling(max_tokens=6), seed=seed)]
    assert {turn.completion.stop for turn in turns} == {StopReason.END, StopReason.LENGTH} or name == "local"
    for turn in turns:
        ends = [token in template.end_ids for token in turn.completion_ids]
        assert not any(ends[:-1])
        assert ends[-1] == (turn.completion.stop is StopReason.END)
        assert ends[-1] or len(turn.completion_ids) == 6


@every_sampler
def test_the_seed_decides_and_prompt_i_has_its_own(name: str, template: ChatTemplate) -> None:
    sampler, sampling = SAMPLERS[name](template), Sampling(max_tokens=8)
    first = sampler.sample(PROMPTS, sampling=sampling, seed=1)
    assert [turn.completion_ids for turn in sampler.sample(PROMPTS, sampling=sampling, seed=1)] == [
        turn.completion_ids for turn in first
    ]
    assert [turn.completion_ids for turn in sampler.sample(PROMPTS, sampling=sampling, seed=2)] != [
        turn.completion_ids for turn in first
    ]
    assert [turn.completion_ids for turn in sampler.sample(PROMPTS[:3], sampling=sampling, seed=1)] == [
        turn.completion_ids for turn in first[:3]
    ]
    twins = sampler.sample([PROMPTS[0]] * 6, sampling=sampling, seed=1)
    assert len({turn.completion_ids for turn in twins}) > 1


@every_sampler
def test_greedy_does_not_ask_the_seed(name: str, template: ChatTemplate) -> None:
    sampler, sampling = SAMPLERS[name](template), Sampling(max_tokens=5, temperature=0.0)
    one, other = (sampler.sample(PROMPTS, sampling=sampling, seed=seed) for seed in (1, 2))
    assert [turn.completion_ids for turn in one] == [turn.completion_ids for turn in other]
    assert all(logp == 0.0 for turn in one for logp in turn.logps)


@every_sampler
def test_no_prompts_give_no_turns(name: str, template: ChatTemplate) -> None:
    assert SAMPLERS[name](template).sample([], sampling=Sampling(), seed=0) == []


def test_a_prompt_that_leaves_no_room_is_named(template: ChatTemplate) -> None:
    sampler = SAMPLERS["local"](template)
    prompts = [PROMPTS[0], Conversation.of_user("q " * 60)]
    with pytest.raises(DataError, match="prompt 2 has"):
        sampler.sample(prompts, sampling=Sampling(max_tokens=8), seed=0)


def reward_model(folders: dict[str, Path], kind: str) -> Scorer:
    reward = new_reward_model(str(folders[kind]), machine=MachineOptions(device="cpu"), seed=3)
    return reward.scorer


def letters(prompts: list[str], texts: list[str]) -> list[int]:
    return [len(prompt) + len(text) for prompt, text in zip(prompts, texts, strict=True)]


SCORERS: dict[str, Callable[[dict[str, Path]], Scorer]] = {
    "reward model": lambda folders: reward_model(folders, "llama"),
    "encoder": lambda folders: reward_model(folders, "bert"),
    "function": lambda folders: FunctionScorer(letters),
    "fake": lambda folders: LengthScorer(),
}


@pytest.mark.parametrize("name", SCORERS)
def test_a_score_belongs_to_its_completion_whatever_stands_beside_it(name: str, folders: dict[str, Path]) -> None:
    scorer = SCORERS[name](folders)
    answers = [Completion(text=text) for text in ("no", "red and blue", "", "yes yes yes yes", "maybe", "four")]
    together = scorer.score(PROMPTS, answers)
    assert len(together) == 6 and all(isinstance(score, float) and math.isfinite(score) for score in together)
    alone = [scorer.score([prompt], [answer])[0] for prompt, answer in zip(PROMPTS, answers, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    backwards = scorer.score(PROMPTS[::-1], answers[::-1])
    assert backwards[::-1] == pytest.approx(together, abs=1e-5)
    assert len(set(together)) > 3
    assert scorer.score([], []) == []


@pytest.mark.parametrize(
    ("values", "match"), [([1.0, math.nan], "'second'"), ([math.inf, 1.0], "'first'"), ([1.0], "1 numbers for 2")]
)
def test_a_reward_that_is_no_number_is_an_error_that_names_the_completion(values: list[float], match: str) -> None:
    scorer = FunctionScorer(lambda prompts, texts: values)
    with pytest.raises(RunError, match=match):
        scorer.score(PROMPTS[:2], [Completion(text="first"), Completion(text="second")])
