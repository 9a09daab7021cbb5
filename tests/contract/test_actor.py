"""Episodes of several turns: tokens in, tokens out, side by side, each with its own end."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import GuessingGame, WordSampler
from small_models import body_of, causal_lm

from assent.algorithms.on_policy.experience import Experience
from assent.backends.local.sampler import LocalSampler
from assent.environments.acting import Actor, EpisodeLimits, as_shown, without_failed
from assent.environments.single_turn import SingleTurn
from assent.errors import RunError
from assent.model.roles import LanguageRole
from assent.ports.environment import StepResult
from assent.ports.sampling import Progress, Sampler, SamplingParams, TurnRequest, silent
from assent.seeds import derive
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, Group, Message, Role, StopReason, Turn

PROMPTS = [Conversation.of_user("one"), Conversation.of_user("red yes"), Conversation.of_user("two")]


def often_ending(template: ChatTemplate) -> ChatTemplate:
    """Random weights seldom end a turn: here every third token does."""
    template = copy.copy(template)
    template.end_ids = template.end_ids | frozenset(range(0, template.vocabulary_size, 3))
    return template


SAMPLERS: dict[str, Callable[[ChatTemplate], Sampler]] = {
    "local": lambda template: LocalSampler(
        LanguageRole(body_of(causal_lm("qwen2"))), often_ending(template), keep_states=True
    ),
    "fake": WordSampler,
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


class Echo:
    """Says "yes" after every turn, cut or not, until so many were played; the reward is that number."""

    prompts: tuple[Conversation, ...] = ()

    def __init__(self, turns: int = 3, then: Callable[[int, Conversation], None] = lambda turn, prompt: None) -> None:
        self.turns, self.then = turns, then

    def reset(self, prompt: Conversation, *, seed: int) -> EchoEpisode:
        return EchoEpisode(self, prompt)


class EchoEpisode:
    def __init__(self, rules: Echo, prompt: Conversation) -> None:
        self.rules, self.prompt, self.played = rules, prompt, 0

    def step(self, completion: Completion) -> StepResult:
        self.played += 1
        self.rules.then(self.played, self.prompt)
        if self.played == self.rules.turns:
            return StepResult(stop=StopReason.END, reward=float(self.played))
        return StepResult(messages=(Message(role=Role.USER, content="yes"),))


class Scripted(Sampler):
    """Writes given texts, turn by turn, each ended; and remembers in which order turns were written."""

    def __init__(self, template: ChatTemplate, texts: Sequence[str] = ("no", "blue", "red")) -> None:
        self.template, self.texts = template, texts
        self.order: list[int] = []

    @property
    def room(self) -> int:
        return 10_000

    def encode(self, prompt: Conversation) -> tuple[int, ...]:
        return self.template.encode_prompt(prompt)

    def encode_reply(self, prompt: Conversation, answer: Message, reply: Sequence[Message]) -> tuple[int, ...]:
        return self.template.encode_reply(prompt, answer, reply)

    def stream(
        self, arrivals: Iterable[Sequence[TurnRequest]], *, sampling: SamplingParams, progress: Progress = silent
    ) -> Iterator[tuple[int, Turn]]:
        for requests in arrivals:
            for one in requests:
                text = self.texts[self.order.count(one.key) % len(self.texts)]
                self.order.append(one.key)
                ids = (*self.template.text_ids([text])[0], self.template.end_id)
                yield one.key, Turn(
                    prompt_ids=one.prompt_ids, completion_ids=ids, logps=(-1.0,) * len(ids),
                    completion=Completion(text=text),
                )  # fmt: skip
            progress(0)


def actor(sampler: Sampler, environment: Any, **limits: Any) -> Actor:
    sampling = SamplingParams(max_tokens=6)
    return Actor(sampler=sampler, sampling=sampling, environment=environment, limits=EpisodeLimits(**limits))


@every_sampler
def test_single_answers_are_what_the_sampler_gives_alone(name: str, template: ChatTemplate) -> None:
    sampler, counted = SAMPLERS[name](template), []
    episodes = actor(sampler, SingleTurn()).play(PROMPTS, n=2, seed=4, progress=counted.append)
    turns = sampler.sample(PROMPTS, sampling=SamplingParams(max_tokens=6), seed=4, n=2)
    assert [one.turns for one in episodes] == [(turn,) for turn in turns] and sum(counted) == 6
    assert [one.completion for one in episodes] == [turn.completion for turn in turns]
    assert [one.prompt for one in episodes] == [prompt for prompt in PROMPTS for _ in "12"]


@every_sampler
def test_the_next_turn_is_asked_with_the_tokens_of_the_last_as_they_were_sampled(
    name: str, template: ChatTemplate
) -> None:
    for seed in range(4):
        for one in actor(SAMPLERS[name](template), Echo(), max_turns=9).play(PROMPTS, n=4, seed=seed):
            ids: tuple[int, ...] = ()
            for turn in one.turns:
                assert turn.prompt_ids[: len(ids)] == ids
                ids = turn.prompt_ids + turn.completion_ids
            assert all(turn.completion.stop is StopReason.END for turn in one.turns[:-1])
            said = [message.content for message in one.prompt.messages if message.role is Role.ASSISTANT]
            assert said == [turn.completion.text for turn in one.turns[:-1]]
            cut = one.turns[-1].completion.stop is not StopReason.END
            assert one.completion.stop is (StopReason.END if len(one.turns) == 3 else StopReason.LENGTH) or not cut
            assert one.completion.reward == (3.0 if len(one.turns) == 3 else None)


def test_only_what_the_policy_wrote_is_learned(template: ChatTemplate) -> None:
    """The truth: the ids of the whole conversation as the template writes it, and its learned tokens."""
    (one,) = actor(Scripted(template), Echo()).play(PROMPTS[:1], seed=0)
    whole = template.encode(one.prompt.then(one.completion.text))
    (sample,) = Experience.of([Group(prompt=PROMPTS[0], trajectories=(replace(one, reward=1.0),))]).samples
    assert sample.tokens == whole and sample.tokens.predicted == len(sample.columns["sampler_logp"])


def test_states_of_all_turns_stand_at_the_tokens_that_were_drawn_from_them(template: ChatTemplate) -> None:
    episodes = actor(SAMPLERS["local"](template), Echo()).play(PROMPTS, n=8, seed=1)
    samples = Experience.of([Group(prompt=PROMPTS[0], trajectories=tuple(episodes))]).samples
    assert max(len(one.turns) for one in episodes) > 1
    assert all(len(one.states) == one.tokens.predicted for one in samples if one.states is not None)
    assert all(one.states is not None for one in samples)


@every_sampler
def test_episodes_follow_from_the_seed_of_their_place(name: str, template: ChatTemplate) -> None:
    sampler = SAMPLERS[name](template)
    first, again = (actor(sampler, GuessingGame()).play(PROMPTS, n=3, seed=7) for _ in "12")
    assert first == again != actor(sampler, GuessingGame()).play(PROMPTS, n=3, seed=8)


def test_turns_draw_from_different_seeds(template: ChatTemplate) -> None:
    seen: list[int] = []

    class Watching(Scripted):
        def stream(self, arrivals: Any, **given: Any) -> Iterator[tuple[int, Turn]]:
            def watched() -> Iterator[Sequence[TurnRequest]]:
                for requests in arrivals:
                    seen.extend(one.seed for one in requests)
                    yield requests

            return super().stream(watched(), **given)

    actor(Watching(template), Echo()).play(PROMPTS, n=2, seed=3)
    assert len(set(seen)) == 18 and seen[:6] == [derive(3, place) for place in range(6)]


@pytest.mark.parametrize(
    ("limits", "stop", "turns"),
    [({"max_turns": 2}, StopReason.TURNS, 2), ({"max_tokens": 12}, StopReason.LENGTH, 1), ({}, StopReason.END, 3)],
)
def test_turns_and_tokens_have_budgets(
    limits: dict[str, int], stop: StopReason, turns: int, template: ChatTemplate
) -> None:
    (one,) = actor(Scripted(template), Echo(), **limits).play(PROMPTS[:1], seed=0)
    assert (one.completion.stop, len(one.turns)) == (stop, turns)
    assert one.completion.reward == (3.0 if stop is StopReason.END else None)


@every_sampler
def test_an_episode_that_fills_the_model_ends_there(name: str, template: ChatTemplate) -> None:
    for one in actor(SAMPLERS[name](template), Echo(turns=99), max_turns=99).play(PROMPTS, n=8, seed=2):
        assert one.completion.stop is StopReason.LENGTH and one.completion.reward is None
        last = one.turns[-1]
        assert len(last.prompt_ids) + 6 <= 64


def test_what_an_environment_raises_fails_its_episode_alone(template: ChatTemplate) -> None:
    def burst(turn: int, prompt: Conversation) -> None:
        if turn == 2 and prompt == PROMPTS[1]:
            raise KeyError("a hole")

    episodes = actor(Scripted(template), Echo(then=burst)).play(PROMPTS, seed=0)
    assert [one.failed for one in episodes] == [False, True, False]
    assert (episodes[1].completion.reward, episodes[1].problem) == (None, "KeyError: 'a hole'")
    assert without_failed(episodes) == [episodes[0], episodes[2]]
    with pytest.raises(RunError, match="every episode failed; the first: KeyError: 'a hole'"):
        without_failed(episodes[1:2])


def test_an_episode_that_cannot_begin_or_says_nonsense_fails_too(template: ChatTemplate) -> None:
    class Broken(Echo):
        def reset(self, prompt: Conversation, *, seed: int) -> Any:
            if prompt == PROMPTS[0]:
                raise ValueError("no such start")
            return type("Odd", (), {"prompt": prompt, "step": lambda self, completion: "yes"})()

    first, second = actor(Scripted(template), Broken()).play(PROMPTS[:2], seed=0)
    assert first.failed and first.problem == "ValueError: no such start" and not first.turns
    assert second.failed and second.problem == "its step gave str and no StepResult"


def test_with_threads_a_slow_environment_holds_no_other_episode(template: ChatTemplate) -> None:
    """The first episode's environment answers only when the others have ended."""
    others, sampler = threading.Semaphore(0), Scripted(template)

    def slow(turn: int, prompt: Conversation) -> None:
        if prompt == PROMPTS[0] and turn == 1:
            assert others.acquire(timeout=60) and others.acquire(timeout=60)
        elif prompt != PROMPTS[0] and turn == 3:
            others.release()

    episodes = actor(sampler, Echo(then=slow), threads=3).play(PROMPTS, seed=0)
    assert [len(one.turns) for one in episodes] == [3, 3, 3] and sampler.order[-2:] == [0, 0]
    assert not any(one.failed for one in episodes)


def test_what_progress_raises_ends_episodes_that_wait_for_their_environment(template: ChatTemplate) -> None:
    free, asked = threading.Event(), []

    def stop(done: int) -> None:
        asked.append(done)
        if len(asked) == 3:
            free.set()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        actor(Scripted(template), Echo(then=lambda *_: free.wait(60) and None), threads=1).play(
            PROMPTS, seed=0, progress=stop
        )


def test_an_episode_is_shown_from_its_first_answer_on(template: ChatTemplate) -> None:
    before = Conversation(messages=(*PROMPTS[0].then("red").messages, *PROMPTS[1].messages))
    (one,) = actor(Scripted(template), Echo()).play([before], seed=0)
    assert one.start == before and len(one.prompt.messages) == 7
    assert as_shown(one).text == "Assistant: no\n\nHuman: yes\n\nAssistant: blue\n\nHuman: yes\n\nAssistant: red"
    (single,) = actor(Scripted(template), SingleTurn()).play([before], seed=0)
    assert single.start == before and as_shown(single) == Completion(text="no")
