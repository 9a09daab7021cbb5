"""Examples that a program makes itself are checked as rows of a file are."""

from __future__ import annotations

import math
from typing import Any

import pytest

from assent.data.validation import check_examples
from assent.errors import DataError
from assent.types import Comparison, Completion, Conversation, Correction, Demonstration, Message, Ranking, Rating, Role

ASKED = Conversation.of_user("Who?")
GOOD, BAD = Completion(text="Me."), Completion(text="You.")


def spoken(*roles: Any, text: Any = "x") -> Conversation:
    return Conversation(messages=tuple(Message(role=role, content=text) for role in roles))


def pair(**changed: Any) -> Comparison:
    return Comparison(**{"prompt": ASKED, "chosen": GOOD, "rejected": BAD, **changed})


def ranking(**changed: Any) -> Ranking:
    return Ranking(**{"prompt": ASKED, "completions": (GOOD, BAD), "ranks": (1, 2), **changed})


def test_right_examples_pass() -> None:
    check_examples([ASKED, spoken(Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL)])
    check_examples([Demonstration(conversation=ASKED.then("Me.")), pair(probability=0.5, margin=1), ranking()])
    check_examples([Rating(prompt=Conversation(messages=()), completion=GOOD, score=1)])


WRONG: list[tuple[object, str]] = [
    (
        pair(prompt="Who?"),
        'row 1 (Comparison): field "prompt": expected assent.types.Conversation, got the text "Who?"',
    ),
    (pair(chosen="Me."), 'field "chosen": expected assent.types.Completion'),
    (pair(chosen=Completion(text=None)), 'field "chosen.text": expected str, got None'),
    (pair(chosen=Completion(text=" ")), 'field "chosen": the completion is empty'),
    (pair(rejected=GOOD), "the two completions are identical"),
    (pair(probability=1.5), 'field "probability": expected 0 to 1, got 1.5'),
    (pair(probability=True), 'field "probability": expected float, got a bool'),
    (pair(margin=math.nan), 'field "margin": expected a finite number, got nan'),
    (pair(margin=-1.0), 'field "margin": expected 0 or more, got -1'),
    (pair(prompt=spoken()), 'field "prompt": the prompt is empty'),
    (pair(prompt=ASKED.then("Me.")), "the prompt ends with the assistant"),
    (pair(group=3), 'field "group": expected str, got an int'),
    (ranking(ranks=(1,)), "2 completions have 1 ranks"),
    (ranking(ranks=(0, 1)), 'field "ranks": 1 is best, got 0'),
    (ranking(ranks=(1, 2.0)), 'field "ranks[1]": expected int, got a float'),
    (ranking(ranks=[1, 2]), 'field "ranks": expected tuple, got a list'),
    (ranking(completions=("Me.", "You.")), 'field "completions[0]": expected assent.types.Completion'),
    (Rating(prompt=ASKED, completion=GOOD, score="1"), 'field "score": expected float, got the text "1"'),
    (Demonstration(conversation=ASKED), "it must end with the assistant"),
    (Demonstration(conversation=spoken("user", "assistant")), 'messages[0].role": expected assent.types.Role'),
    (Conversation(messages=[Message(role=Role.USER, content="x")]), 'field "messages": expected tuple, got a list'),
    (Conversation(messages="x"), 'field "messages": expected tuple'),
    (spoken(Role.USER, text="\ud800"), "broken Unicode"),
    (spoken(Role.USER, text="  "), "the prompt is empty"),
    (Correction(prompt=ASKED, original=BAD, edited=GOOD), "of another kind"),
    ({"prompt": "Who?"}, "row 1: this row is of another kind than the others"),
]


@pytest.mark.parametrize(("example", "expected"), WRONG, ids=range(len(WRONG)))
def test_wrong_examples_are_refused_by_field(example: object, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        check_examples([example])
    assert expected in str(caught.value)
