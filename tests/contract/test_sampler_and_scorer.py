"""What every Sampler and every Scorer promises; the fakes promise it too."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import LengthScorer, WordSampler
from small_models import body_of, causal_lm

from assent.backends.local.sampler import LocalSampler
from assent.errors import RunError
from assent.model.roles import LanguageRole
from assent.ports.sampling import PromptTooLong, Sampler, SamplingParams, Scorer, TurnRequest
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.seeds import derive
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, StopReason

TEXTS = ("red", "one two three", "what is red ?", "yes", "blue green", "maybe no")
PROMPTS = [Conversation.of_user(text) for text in TEXTS]
SAMPLERS: dict[str, Callable[[ChatTemplate], Sampler]] = {
    "local": lambda template: LocalSampler(LanguageRole(body_of(causal_lm("qwen2"))), template),
    "fake": WordSampler,
}
PUBLISH: dict[str, Callable[[Any], None]] = {  # what makes its weights new ones
    "local": lambda sampler: setattr(sampler.role, "version", sampler.role.version + 1),
    "fake": lambda sampler: setattr(sampler, "version", sampler.version + 1),
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


@every_sampler
def test_there_is_one_turn_per_prompt_in_order(name: str, template: ChatTemplate) -> None:
    done: list[int] = []
    turns = SAMPLERS[name](template).sample(
        PROMPTS, sampling=SamplingParams(max_tokens=9), seed=1, progress=done.append
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
    turns = [
        turn for seed in range(20) for turn in sampler.sample(PROMPTS, sampling=SamplingParams(max_tokens=6), seed=seed)
    ]
    assert {turn.completion.stop for turn in turns} == {StopReason.END, StopReason.LENGTH} or name == "local"
    for turn in turns:
        ends = [token in template.end_ids for token in turn.completion_ids]
        assert not any(ends[:-1])
        assert ends[-1] == (turn.completion.stop is StopReason.END)
        assert ends[-1] or len(turn.completion_ids) == 6


@every_sampler
def test_the_seed_decides_and_prompt_i_has_its_own(name: str, template: ChatTemplate) -> None:
    sampler, sampling = SAMPLERS[name](template), SamplingParams(max_tokens=8)
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
    sampler, sampling = SAMPLERS[name](template), SamplingParams(max_tokens=5, temperature=0.0)
    one, other = (sampler.sample(PROMPTS, sampling=sampling, seed=seed) for seed in (1, 2))
    assert [turn.completion_ids for turn in one] == [turn.completion_ids for turn in other]
    assert all(logp == 0.0 for turn in one for logp in turn.logps)


@every_sampler
def test_no_prompts_give_no_turns(name: str, template: ChatTemplate) -> None:
    assert SAMPLERS[name](template).sample([], sampling=SamplingParams(), seed=0) == []


@every_sampler
def test_completion_j_of_prompt_i_draws_from_the_seed_of_its_place(name: str, template: ChatTemplate) -> None:
    sampler, sampling = SAMPLERS[name](template), SamplingParams(max_tokens=8)
    turns = sampler.sample(PROMPTS, sampling=sampling, seed=3, n=4)
    assert [turn.prompt_ids for turn in turns] == [template.encode_prompt(prompt) for prompt in PROMPTS for _ in "1234"]
    for place in (0, 6, 23):
        request = TurnRequest(key=7, prompt_ids=turns[place].prompt_ids, seed=derive(3, place))
        alone = dict(sampler.stream([[request]], sampling=sampling))
        assert alone[7].completion_ids == turns[place].completion_ids
    assert len({turn.completion_ids for turn in turns}) > len(PROMPTS)


@every_sampler
def test_the_stream_gives_every_place_once_as_it_is_finished(name: str, template: ChatTemplate) -> None:
    sampler, sampling = SAMPLERS[name](template), SamplingParams(max_tokens=8)
    ids = [sampler.encode(prompt) for prompt in PROMPTS]
    requests = [TurnRequest(key=place, prompt_ids=ids[place // 2], seed=derive(1, place)) for place in range(12)]
    streamed = list(sampler.stream([requests], sampling=sampling))
    assert sorted(place for place, _ in streamed) == list(range(12))
    assert [turn for _, turn in sorted(streamed, key=lambda one: one[0])] == sampler.sample(
        PROMPTS, sampling=sampling, seed=1, n=2
    )


@every_sampler
def test_what_progress_raises_between_two_tokens_ends_the_sampling(name: str, template: ChatTemplate) -> None:
    calls: list[int] = []

    def stop(done: int) -> None:
        calls.append(done)
        if len(calls) == 3:
            raise InterruptedError

    sampler = SAMPLERS[name](template)
    with pytest.raises(InterruptedError):
        sampler.sample(PROMPTS, sampling=SamplingParams(max_tokens=8, temperature=0.0), seed=1, progress=stop)
    assert calls == [0, 0, 0], "long before a completion has its 8 tokens"


@every_sampler
def test_writing_ends_before_a_stop_sequence(name: str, template: ChatTemplate) -> None:
    sampler, sampling, cut = SAMPLERS[name](template), SamplingParams(max_tokens=10), 0
    for place, free in enumerate(sampler.sample(PROMPTS, sampling=sampling, seed=2, n=3)):
        text, request = free.completion.text, TurnRequest(key=0, prompt_ids=free.prompt_ids, seed=derive(2, place))
        if plain := re.findall("[!-~]+", text):
            stop = plain[-1][:3]
            stopping = replace(sampling, stop=("never said", stop))
            turn = dict(sampler.stream([[request]], sampling=stopping))[0]
            assert turn.completion == Completion(text=text[: text.index(stop)], stop=StopReason.END)
            written = free.completion_ids[: len(turn.completion_ids)]
            assert turn.completion_ids == written and stop in template.decode(written)
            assert stop not in template.decode(written[:-1]), "nothing is written behind it"
            cut += 1
    assert cut >= 3


@every_sampler
def test_without_a_limit_writing_goes_on_until_the_model_is_full(name: str, template: ChatTemplate) -> None:
    sampler = SAMPLERS[name](template)
    (turn,) = sampler.sample(PROMPTS[:1], sampling=SamplingParams(max_tokens=None, temperature=0.0), seed=0)
    assert len(turn.prompt_ids) + len(turn.completion_ids) == 64 and turn.completion.stop is StopReason.LENGTH


@every_sampler
def test_a_prompt_that_leaves_no_room_is_named_before_anything_is_written(name: str, template: ChatTemplate) -> None:
    prompts, done = [PROMPTS[0], Conversation.of_user("q " * 60)], list[int]()
    with pytest.raises(PromptTooLong, match="prompt 2 has"):
        SAMPLERS[name](template).sample(prompts, sampling=SamplingParams(max_tokens=8), seed=0, progress=done.append)
    assert not done


@every_sampler
def test_turns_bear_the_version_of_the_weights(name: str, template: ChatTemplate) -> None:
    sampler, sampling, versions = SAMPLERS[name](template), SamplingParams(max_tokens=2), []
    for _ in range(3):
        versions.append({turn.version for turn in sampler.sample(PROMPTS[:2], sampling=sampling, seed=0)})
        PUBLISH[name](sampler)
    assert versions == [{0}, {1}, {2}]


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
