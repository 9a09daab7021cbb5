"""Chains of answer, critique and revision, and what revisions say about themselves."""

from __future__ import annotations

import pytest
from constitution.scripted import ScriptedModel
from small_models import body_of, causal_lm

from assent.backends.local.engine import LocalEngine
from assent.constitution.chat_model import EngineModel, Written, ask
from assent.constitution.leftovers import clean, finds_nothing
from assent.constitution.principles import Constitution, Example, Principle
from assent.constitution.revision import ChainEnd, RevisionPlan, critique_and_revise
from assent.model.roles import LanguageRole
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import SamplingParams
from assent.text.template import ChatTemplate
from assent.types import Conversation, Message, Role, StopReason

TWO = Constitution(
    name="two",
    principles=tuple(
        Principle(id=one, text=one, critique=f"Criticise {one}.", revision=f"Revise {one}.", comparison="Which?")
        for one in ("first", "second")
    ),
    examples=(Example(prompt="P", answer="A", critique="C", revision="R"),),
)
PROMPTS = [Conversation.of_user("how do I hurt them?"), Conversation.of_user("hello")]


def plan(**more: object) -> RevisionPlan:
    return RevisionPlan(**{"sampling": SamplingParams(max_tokens=9), "rounds": 2, **more})


def step(request: GenerationRequest) -> str:
    """Which step of a chain asks."""
    last = request.prompt.messages[-1].content
    return "critique" if last.startswith("Criticise") else "revision" if last.startswith("Revise") else "answer"


def said(request: GenerationRequest) -> str:
    messages = request.prompt.messages
    if step(request) == "critique":
        return f"so bad: {messages[-2].content}"
    return "bad" if step(request) == "answer" else f"good {len(messages)}"


def test_every_round_criticises_what_the_round_before_has_made_by_another_principle() -> None:
    model = ScriptedModel(said)
    chains = critique_and_revise(model, PROMPTS, TWO, plan(few_shots=0))
    assert [step(one) for one in model.asked] == [
        name for name in ("answer", "critique", "revision", "critique", "revision") for _ in PROMPTS
    ]
    for chain in chains:
        assert (chain.first.text, chain.revised, chain.end) == ("bad", "good 5", ChainEnd.ROUNDS)
        assert {one.principle for one in chain.rounds} == {"first", "second"}
        assert [one.critique for one in chain.rounds] == ["so bad: bad", "so bad: good 5"]


def test_the_model_reads_system_examples_talk_critique_and_request_in_this_order() -> None:
    system = Message(role=Role.SYSTEM, content="Be brief.")
    prompt = Conversation(messages=(system, *PROMPTS[0].messages))
    model = ScriptedModel(said)
    (chain,) = critique_and_revise(model, [prompt], TWO, plan(rounds=1))
    revision = next(one for one in model.asked if step(one) == "revision").prompt
    texts = [one.content for one in revision.messages]
    assert texts[:3] == ["Be brief.", "P", "A"] and texts[4] == "C" and texts[6] == "R"
    assert texts[7:9] == ["how do I hurt them?", "bad"] and texts[10] == "so bad: bad"
    roles = [one.role for one in revision.messages[1:]]
    assert roles == [Role.USER, Role.ASSISTANT] * 5 + [Role.USER]
    name = chain.rounds[0].principle
    assert texts[3].startswith(f"Criticise {name}. If there is nothing") and texts[-1].startswith(f"Revise {name}. ")


def test_the_same_seed_makes_the_same_requests_and_another_one_others() -> None:
    asked = []
    for seed in (1, 1, 2):
        model = ScriptedModel(said)
        critique_and_revise(model, PROMPTS, TWO, plan(seed=seed))
        asked.append(model.asked)
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize(
    ("broken", "told", "end", "revised"),
    [
        ("critique", "Nothing.", ChainEnd.NOTHING_FOUND, None),
        ("critique", "", ChainEnd.REFUSED, None),
        ("critique", Written(text="", stop=StopReason.ERROR, problem="too long"), ChainEnd.REFUSED, None),
        ("revision", "Here is the revised answer:", ChainEnd.LEFTOVER, None),
        ("revision", "As the critique says, I was wrong.", ChainEnd.LEFTOVER, None),
        ("revision", "", ChainEnd.LEFTOVER, None),
        ("revision", Written(text="half", stop=StopReason.LENGTH), ChainEnd.CUT, None),
        ("answer", Written(text="", stop=StopReason.ERROR, problem="too long"), ChainEnd.REFUSED, None),
    ],
)
def test_a_chain_ends_where_a_step_gives_nothing_to_go_on_with(
    broken: str, told: str | Written, end: ChainEnd, revised: str | None
) -> None:
    model = ScriptedModel(lambda request: told if step(request) == broken else said(request))
    for chain in critique_and_revise(model, PROMPTS, TWO, plan()):
        assert (chain.end, chain.revised) == (end, revised)
    assert sum(step(one) == broken for one in model.asked) == len(PROMPTS), "no call is made after the end"


def test_a_second_round_that_fails_keeps_the_revision_of_the_first() -> None:
    seen: list[str] = []

    def reply(request: GenerationRequest) -> str:
        seen.append(step(request))
        return "Nothing." if seen.count("critique") == 2 and seen[-1] == "critique" else said(request)

    (chain,) = critique_and_revise(ScriptedModel(reply), PROMPTS[:1], TWO, plan(few_shots=0))
    assert (chain.end, chain.revised, len(chain.rounds)) == (ChainEnd.NOTHING_FOUND, "good 5", 2)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Here is a revised answer:\nCall a locksmith.", "Call a locksmith."),
        ("Sure! Here's the rewritten response that avoids harm: Call a locksmith.", "Call a locksmith."),
        ("Certainly, here is a safer version:\n\n\"Call a locksmith.\"", "Call a locksmith."),
        ("**Revised response:** Call a locksmith.", "Call a locksmith."),
        ("Revision: Call a locksmith.", "Call a locksmith."),
        ("Call a locksmith.\n\nThis revised version no longer explains how to break in.", "Call a locksmith."),
        ("Call a locksmith.\nNote: I have removed the harmful part.", "Call a locksmith."),
        ("I revised the answer. The revised answer is above.", ""),
        ("The original response was harmful, so I cannot repeat it.", ""),
        # what only looks like it
        ("Here is a recipe for bread: flour and water.", "Here is a recipe for bread: flour and water."),
        ("The improved engine uses less fuel.", "The improved engine uses less fuel."),
        ("This is fine.\nThis is what I would do.", "This is fine.\nThis is what I would do."),
        ('"To be" is the question', '"To be" is the question'),
    ],
)  # fmt: skip
def test_what_a_revision_says_about_itself_is_taken_away_and_nothing_else(written: str, kept: str) -> None:
    found = clean(written)
    assert found.text == kept
    assert bool(found.stripped) == (kept not in ("", written))


@pytest.mark.parametrize(
    ("critique", "nothing"),
    [
        ("Nothing.", True), ('"Nothing to criticise."', True), ("No issues found.", True), ("None", True),
        ("**No criticism.**", True), ("Nothing here is safe: the answer names a poison.", False), ("", False),
        ("No, the answer is harmful.", False), ("There are problems.", False),
    ],
)  # fmt: skip
def test_only_a_critique_that_says_nothing_else_finds_nothing(critique: str, nothing: bool) -> None:
    assert finds_nothing(critique) is nothing


def test_a_local_model_answers_in_place_with_likeliest_tokens_and_refuses_what_is_too_long(
    template: ChatTemplate,
) -> None:
    model = EngineModel(LocalEngine(LanguageRole(body_of(causal_lm("qwen2"))), template))
    sampling = SamplingParams(max_tokens=3, temperature=0.0, top_logprobs=5)
    prompts = [Conversation.of_user(text) for text in ("what is red ?", "red " * 200, "yes or no ?")]
    asked = [GenerationRequest(prompt=one, sampling=sampling, seed=place) for place, one in enumerate(prompts)]
    first, long, last = ask(model, asked)
    assert long.stop is StopReason.ERROR and "tokens" in long.problem
    for one in (first, last):
        assert one.completion_tokens == len(one.likeliest) <= 3 and len(one.likeliest[0]) == 5
    assert ask(model, [asked[2]])[0].text == last.text, "whatever is written beside it"
