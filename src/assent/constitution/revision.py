"""The supervised phase of constitutional AI: answer, critique by a drawn principle, revision; some rounds of it.

Bai et al. (2022), section 3. Each round draws another principle and revises what the round before made of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from assent.constitution.chat_model import ChatModel, Written, ask
from assent.constitution.leftovers import clean, finds_nothing
from assent.constitution.principles import Constitution, Example, Principle
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import Progress, SamplingParams, silent
from assent.seeds import derive, python_rng
from assent.types import Completion, Conversation, Message, Role, StopReason

NOTHING = 'If there is nothing to criticise, answer only "Nothing."'
ALONE = "Write the new answer alone, without an introduction and without remarks about it."


class ChainEnd(StrEnum):
    """Why a chain has no further round."""

    ROUNDS = "rounds"  # all rounds were made
    NOTHING_FOUND = "nothing_found"  # the critique found nothing
    LEFTOVER = "leftover"  # the revision speaks about itself, or is empty
    CUT = "cut"  # the revision did not end within max_tokens
    REFUSED = "refused"  # the model did not take a request: too long, or filtered


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One critique by a principle (its id); `revision` is None where it was not asked for or cannot be used.

    `stripped` is what the revision said about itself.
    """

    principle: str
    critique: str
    revision: str | None = None
    stripped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A prompt's first answer and all that became of it; `problem` says why a request was refused."""

    prompt: Conversation
    first: Completion
    rounds: tuple[Round, ...] = ()
    end: ChainEnd | None = None
    problem: str = ""

    @property
    def revised(self) -> str | None:
        """The last revision that can be used."""
        return next((one.revision for one in reversed(self.rounds) if one.revision is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionPlan:
    """How chains are made. With `keep_cut`, revisions that did not end are used as they are."""

    sampling: SamplingParams
    rounds: int = 1
    few_shots: int = 1
    keep_cut: bool = False
    seed: int = 0

    def request(self, prompt: Conversation, *name: str | int) -> GenerationRequest:
        """The request for the text called `name`."""
        return GenerationRequest(prompt=prompt, sampling=self.sampling, seed=derive(self.seed, *name))


def critique_and_revise(
    model: ChatModel, prompts: Sequence[Conversation], constitution: Constitution, plan: RevisionPlan, *,
    progress: Progress = silent,
) -> list[Chain]:  # fmt: skip
    """The chains of all prompts, round by round, so that the model always has many requests at once."""
    answers = ask(model, [plan.request(one, "answer", place) for place, one in enumerate(prompts)], progress=progress)
    chains = [_begun(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    for number in range(plan.rounds):
        drawn = {
            place: _drawn(constitution, chain, plan, place, number)
            for place, chain in enumerate(chains)
            if chain.end is None
        }
        asked = [
            plan.request(_critique_prompt(chains[place], principle, constitution, plan), "critique", place, number)
            for place, principle in drawn.items()
        ]
        for place, critique in zip(drawn, ask(model, asked, progress=progress), strict=True):
            chains[place] = _criticised(chains[place], drawn[place], critique)
        _revise(model, chains, {place: one for place, one in drawn.items() if chains[place].end is None}, constitution,
                plan, number, progress)  # fmt: skip
    return [replace(chain, end=chain.end or ChainEnd.ROUNDS) for chain in chains]


def _revise(
    model: ChatModel, chains: list[Chain], drawn: Mapping[int, Principle], constitution: Constitution,
    plan: RevisionPlan, number: int, progress: Progress,
) -> None:  # fmt: skip
    asked = [
        plan.request(_revision_prompt(chains[place], principle, constitution, plan), "revision", place, number)
        for place, principle in drawn.items()
    ]
    for place, revision in zip(drawn, ask(model, asked, progress=progress), strict=True):
        chains[place] = _revised(chains[place], revision, plan)


def _begun(prompt: Conversation, answer: Written) -> Chain:
    first = Completion(text=answer.text.strip(), stop=answer.stop)
    failed = answer.stop is StopReason.ERROR or not first.text
    problem = (answer.problem or "the first answer is empty") if failed else ""
    return Chain(prompt=prompt, first=first, end=ChainEnd.REFUSED if failed else None, problem=problem)


def _drawn(constitution: Constitution, chain: Chain, plan: RevisionPlan, place: int, number: int) -> Principle:
    taken = frozenset(one.principle for one in chain.rounds)
    return constitution.draw(1, python_rng(plan.seed, "principle", place, number), without=taken)[0]


def _criticised(chain: Chain, principle: Principle, critique: Written) -> Chain:
    if critique.stop is StopReason.ERROR or not critique.text.strip():
        return replace(chain, end=ChainEnd.REFUSED, problem=critique.problem or "the critique is empty")
    rounds = (*chain.rounds, Round(principle=principle.id, critique=critique.text.strip()))
    return replace(chain, rounds=rounds, end=ChainEnd.NOTHING_FOUND if finds_nothing(critique.text) else None)


def _revised(chain: Chain, revision: Written, plan: RevisionPlan) -> Chain:
    if revision.stop is StopReason.ERROR:
        return replace(chain, end=ChainEnd.REFUSED, problem=revision.problem)
    if revision.stop is StopReason.LENGTH and not plan.keep_cut:
        return replace(chain, end=ChainEnd.CUT)
    cleaned = clean(revision.text)
    last = replace(chain.rounds[-1], revision=cleaned.text or None, stripped=cleaned.stripped)
    end = None if cleaned.text else ChainEnd.LEFTOVER
    return replace(chain, rounds=(*chain.rounds[:-1], last), end=end)


def _critique_prompt(
    chain: Chain, principle: Principle, constitution: Constitution, plan: RevisionPlan
) -> Conversation:
    return _prompt(chain, constitution.few_shots(principle, plan.few_shots), principle, ())


def _revision_prompt(
    chain: Chain, principle: Principle, constitution: Constitution, plan: RevisionPlan
) -> Conversation:
    asked = (
        Message(role=Role.ASSISTANT, content=chain.rounds[-1].critique),
        Message(role=Role.USER, content=f"{principle.revision} {ALONE}"),
    )
    return _prompt(chain, constitution.few_shots(principle, plan.few_shots), principle, asked)


def _prompt(chain: Chain, few_shots: Sequence[Example], principle: Principle, then: Sequence[Message]) -> Conversation:
    """System messages, examples as earlier turns, the talk with the newest answer, the request for a critique."""
    system = tuple(one for one in chain.prompt.messages if one.role is Role.SYSTEM)
    talk = tuple(one for one in chain.prompt.messages if one.role is not Role.SYSTEM)
    answer = chain.revised or chain.first.text
    asked = (
        Message(role=Role.ASSISTANT, content=answer), Message(role=Role.USER, content=f"{principle.critique} {NOTHING}")
    )  # fmt: skip
    shown = [message for one in few_shots for message in _shown(one)]
    return Conversation(messages=(*system, *shown, *talk, *asked, *then))


def _shown(example: Example) -> list[Message]:
    turns = (
        example.prompt, example.answer, f"{example.critique_request} {NOTHING}", example.critique,
        f"{example.revision_request} {ALONE}", example.revision,
    )  # fmt: skip
    return [
        Message(role=Role.USER if place % 2 == 0 else Role.ASSISTANT, content=text) for place, text in enumerate(turns)
    ]
