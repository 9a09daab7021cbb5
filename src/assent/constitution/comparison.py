"""AI preference: a model compares two answers by one drawn principle at a time, in both orders.

    p_AB = P(A) / (P(A) + P(B))  with the first answer shown as A,    p_BA likewise with it shown as B
    label = mean over drawn principles of (p_AB + p_BA) / 2           soft, and the same whichever answer comes first

P(A) is the probability of the letter's tokens. Bai et al. (2022), section 4.1; both orders as in Lee et al. (2023),
"RLAIF" (arXiv 2309.00267). After a chain of thought the letters are all but certain: probabilities are clamped to
[0.4, 0.6] then, as in the first paper.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assent.constitution.chat_model import ChatModel, Written, ask
from assent.constitution.principles import Constitution, Principle
from assent.errors import RunError
from assent.feedback.records import conversation_to_json
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import Progress, SamplingParams, silent
from assent.seeds import derive, python_rng
from assent.types import Completion, Conversation, Message, Role, StopReason

LIKELIEST = 20  # tokens looked at for each place: the most that servers give
_LETTER_TOKENS = 4  # "(", "A", ")"
_VOTE_TOKENS = 8
MARKS = " \n\t()[]*_.:\"'`,▁Ġ"
_LETTER = re.compile(r"(?<![\w'])([AB])(?![\w'])")
_ANSWER = "Answer with one letter: A or B."
_THINK = "Think step by step about what speaks for each answer. Do not choose yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingPlan:
    """How pairs are compared.

    `principles` are drawn for each pair. A letter counts where A and B together have at least `least_mass` of the
    probability. `votes` answers are sampled for each order where the model gives no log-probabilities. `clamp` bounds
    each probability after a chain of thought.
    """

    principles: int = 1
    few_shots: int = 1
    thoughts: bool = False
    clamp: tuple[float, float] = (0.4, 0.6)
    votes: int = 5
    least_mass: float = 0.1
    thought_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """P(the first is better) by one principle with the first shown as A (`forward`) and as B (`backward`), unclamped.

    None where the judge answered neither A nor B. `sampled`: the share of votes, for want of log-probabilities.
    """

    principle: str
    forward: float | None
    backward: float | None
    sampled: bool = False

    def probability(self, clamp: tuple[float, float] | None) -> float | None:
        """The mean of both orders; None unless there are both, since one alone is biased by its position."""
        if self.forward is None or self.backward is None:
            return None
        low, high = clamp or (0.0, 1.0)
        return (min(max(self.forward, low), high) + min(max(self.backward, low), high)) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """The verdicts on a pair and P(the first is better), their mean; None where no verdict has both orders."""

    verdicts: tuple[Verdict, ...]
    probability: float | None

    def as_preference(self, model: str) -> dict[str, Any]:
        """As a feedback store keeps what `model` preferred."""
        verdicts = [
            {"principle": one.principle, "forward": one.forward, "backward": one.backward} for one in self.verdicts
        ]
        return {"model": model, "probability": self.probability, "verdicts": verdicts}


@dataclass(slots=True)
class _Question:
    """One order of one pair by one principle: `shown` are the answers as A and B."""

    prompt: Conversation
    principle: Principle
    shown: tuple[str, str]
    seed: int
    thought: str = ""


class PrincipleJudge:
    """A `Judge` that is a model with a constitution."""

    def __init__(self, model: ChatModel, constitution: Constitution, plan: JudgingPlan = JudgingPlan()) -> None:
        constitution.require_comparisons(constitution.name)
        self._model, self._constitution, self._plan = model, constitution, plan

    def prefer(
        self, prompts: Sequence[Conversation], first: Sequence[Completion], second: Sequence[Completion]
    ) -> list[float]:
        """The probabilities. Raises RunError for a pair that the judge does not answer."""
        found = []
        for prompt, judged in zip(prompts, self.judge(prompts, first, second), strict=True):
            if judged.probability is None:
                what, now = "the judge answers neither A nor B", "Take another judge, or lower least_mass."
                raise RunError(what, where=f'prompt "{prompt.last_user_text[:40]}"', now=now)
            found.append(judged.probability)
        return found

    def judge(
        self, prompts: Sequence[Conversation], first: Sequence[Completion], second: Sequence[Completion], *,
        progress: Progress = silent,
    ) -> list[JudgedPair]:  # fmt: skip
        """All verdicts, which do not depend on what stands beside a pair or which of the two comes first."""
        asked: list[list[tuple[_Question, _Question]]] = [
            list(self._questions(*one)) for one in zip(prompts, first, second, strict=True)
        ]
        flat = [question for pair in asked for both in pair for question in both]
        if self._plan.thoughts:
            self._think(flat, progress)
        letters = iter(self._letters(flat, progress))
        clamp = self._plan.clamp if self._plan.thoughts else None
        return [_judged([_verdict(both, next(letters), next(letters)) for both in pair], clamp) for pair in asked]

    def _questions(
        self, prompt: Conversation, first: Completion, second: Completion
    ) -> Iterator[tuple[_Question, _Question]]:
        """Principles follow from prompt and texts alone, and each order has its own seed."""
        told, texts = conversation_to_json(prompt), (first.text, second.text)
        key = hashlib.blake2b(json.dumps([told, *sorted(texts)]).encode(), digest_size=8).hexdigest()
        rng = python_rng(self._plan.seed, "principles", key)
        for principle in self._constitution.draw(self._plan.principles, rng):
            yield tuple(  # type: ignore[misc]
                _Question(
                    prompt=prompt, principle=principle, shown=shown,
                    seed=derive(self._plan.seed, "judge", key, principle.id, int(shown[0] > shown[1])),
                )
                for shown in (texts, texts[::-1])
            )  # fmt: skip

    def _think(self, questions: Sequence[_Question], progress: Progress) -> None:
        sampling = SamplingParams(max_tokens=self._plan.thought_tokens)
        requests = [
            GenerationRequest(prompt=self._prompt(one, _THINK), sampling=sampling, seed=one.seed) for one in questions
        ]
        for question, thought in zip(questions, ask(self._model, requests, progress=progress), strict=True):
            question.thought = thought.text.strip()

    def _letters(self, questions: Sequence[_Question], progress: Progress) -> list[tuple[float | None, bool]]:
        """P(A) of every question, and whether it is a share of votes."""
        exact = SamplingParams(max_tokens=_LETTER_TOKENS, temperature=0.0, top_logprobs=LIKELIEST)
        asked = [
            GenerationRequest(prompt=self._prompt(one, _ANSWER), sampling=exact, seed=one.seed) for one in questions
        ]
        written = ask(self._model, asked, progress=progress)
        found: list[tuple[float | None, bool]] = [(letter_probability(one, self._plan.least_mass), False)
                                                  for one in written]  # fmt: skip
        silent_places = [place for place, one in enumerate(written) if one.text.strip() and not one.likeliest]
        sampling = SamplingParams(max_tokens=_VOTE_TOKENS)
        votes = [
            GenerationRequest(prompt=asked[place].prompt, sampling=sampling, seed=derive(asked[place].seed, "vote", n))
            for place in silent_places
            for n in range(self._plan.votes)
        ]
        given = ask(self._model, votes, progress=progress)
        for index, place in enumerate(silent_places):
            of_place = given[index * self._plan.votes : (index + 1) * self._plan.votes]
            found[place] = (vote_share(of_place), True)
        return found

    def _prompt(self, question: _Question, then: str) -> Conversation:
        """Examples as earlier turns, the comparison, and thoughts where there are any.

        In every second example B is right. That is so in both orders: a judge that copies the examples' letters then
        shows as one with a position bias.
        """
        messages: list[Message] = []
        for place, one in enumerate(self._constitution.few_shots(question.principle, self._plan.few_shots)):
            shown, letter = ((one.answer, one.revision), "B") if place % 2 else ((one.revision, one.answer), "A")
            talk = Conversation.of_user(one.prompt)
            messages += [
                _user(f"{comparison_text(talk, question.principle, shown)}\n{_ANSWER}"),
                Message(role=Role.ASSISTANT, content=letter),
            ]
        asked = comparison_text(question.prompt, question.principle, question.shown)
        if not question.thought:
            return Conversation(messages=(*messages, _user(f"{asked}\n{then}")))
        thought = Message(role=Role.ASSISTANT, content=question.thought)
        return Conversation(messages=(*messages, _user(f"{asked}\n{_THINK}"), thought, _user(then)))


def comparison_text(prompt: Conversation, principle: Principle, shown: tuple[str, str]) -> str:
    """The question, as the model reads it."""
    talk = "\n".join(f"{str(one.role).capitalize()}: {one.content}" for one in prompt.messages)
    return (
        f"Consider this conversation:\n\n{talk}\n\nTwo answers could follow.\n\n(A) {shown[0]}\n\n(B) {shown[1]}\n\n"
        f"{principle.comparison}"
    )


def letter_probability(written: Written, least_mass: float) -> float | None:
    """P(A) / (P(A) + P(B)) at the first place where the two letters have at least `least_mass`; None if nowhere.

    A letter that is not among the likeliest tokens is no likelier than the last of them, and counts as that.
    """
    for likeliest in written.likeliest:
        mass = {"A": 0.0, "B": 0.0}
        for token, logp in likeliest.items():
            if (letter := token.strip(MARKS)) in mass:
                mass[letter] += math.exp(logp)
        if sum(mass.values()) >= max(least_mass, 1e-12):
            at_most = math.exp(min(likeliest.values())) if len(likeliest) > 1 else 0.0
            a, b = (value or at_most for value in mass.values())
            return a / (a + b)
    return None


def vote_share(votes: Sequence[Written]) -> float | None:
    """The share of A among answers that name a letter; None if none does."""
    letters = [found[1] for one in votes if one.stop is not StopReason.ERROR and (found := _LETTER.search(one.text))]
    return letters.count("A") / len(letters) if letters else None


def _verdict(
    both: tuple[_Question, _Question], forward: tuple[float | None, bool], backward: tuple[float | None, bool]
) -> Verdict:
    (p_forward, sampled), (p_backward, also_sampled) = forward, backward
    return Verdict(
        principle=both[0].principle.id, forward=p_forward, backward=None if p_backward is None else 1.0 - p_backward,
        sampled=sampled or also_sampled,
    )  # fmt: skip


def _judged(verdicts: Sequence[Verdict], clamp: tuple[float, float] | None) -> JudgedPair:
    told = [p for one in verdicts if (p := one.probability(clamp)) is not None]
    return JudgedPair(verdicts=tuple(verdicts), probability=math.fsum(told) / len(told) if told else None)


def _user(text: str) -> Message:
    return Message(role=Role.USER, content=text)
