"""Rows of two answers and a label for the better one: a name, a number, a signed strength, flags, or two scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assent.data.completions import after_prompt, answer_messages, split_last_answers
from assent.data.examples import Example, Format, Kind, comparison_of, has
from assent.data.literals import is_texts, parse_texts
from assent.data.prompts import prompt_messages, prompt_name, prompt_of, with_system
from assent.data.rows import Fields, answer_of, list_of, number_value, present, text_of, text_value, wrong
from assent.errors import DataError
from assent.types import Conversation, Message, Role

_ANSWER = re.compile(
    r"(response|answer|completion|output|candidate|reply|generation|human_ref|conversation|summary)"
    r"[ _.-]?([0-9]|[a-z])",
    re.IGNORECASE,
)
_MARKS = (("0", "1"), ("1", "2"), ("a", "b"))
_JUDGED_BY = (
    *("label", "better_response_id", "preference_strength", "overall_preference", "labels", "winner", "preference"),
    *("preferred", "better", "best", "choice", "chosen", "judgement", "judgment", "verdict"),
)
_SIGNED = ("preference_strength", "overall_preference")  # below zero, the first answer is better
_TIES = ("tie", "tied", "draw", "both", "both_bad", "bothbad", "tie (bothbad)", "both_good", "equal", "same", "neither")
_ARENA = ("winner_model_a", "winner_model_b", "winner_tie")


@dataclass(frozen=True, slots=True)
class _Two:
    """The columns of the two answers, and the marks in their names: 0 and 1, 1 and 2, a and b."""

    names: tuple[str, str]
    marks: tuple[str, str]


def _two(fields: Fields) -> _Two | None:
    """The columns of two answers; None if there are none, or more than two."""
    found: dict[str, dict[str, str]] = {}
    for name in fields:
        match = _ANSWER.fullmatch(str(name))
        if match:
            found.setdefault(match[1].lower(), {})[match[2].lower()] = str(name)
    for columns in found.values():
        for marks in _MARKS:
            if set(columns) == set(marks):
                return _Two((columns[marks[0]], columns[marks[1]]), marks)
    return None


def _score_names(fields: Fields, two: _Two) -> tuple[str, str] | None:
    """The columns of the two answers' scores."""
    for stem in ("score", "rating", "reward"):
        names = [
            next((str(one) for one in fields if re.fullmatch(rf"{stem}[ _.-]?{mark}", str(one), re.IGNORECASE)), None)
            for mark in two.marks
        ]
        if names[0] is not None and names[1] is not None:
            return names[0], names[1]
    return None


def _is_compared(fields: Fields) -> bool:
    two = _two(fields)
    if two is None:
        return False
    judged = any(name in fields for name in (*_JUDGED_BY, _ARENA[0])) or _score_names(fields, two) is not None
    return judged and (prompt_name(fields) is not None or two.names[0].lower().startswith("conversation"))


def read_pairwise(fields: Fields) -> list[Example]:
    """Two answers (or whole conversations) and which of them is better; ties have probability one half."""
    two = _two(fields)
    if two is None:
        raise DataError("two answers, such as response_a and response_b, are missing")
    first_is_better = _first_is_better(fields, two)
    sides = [_side(fields, name) for name in two.names]
    prompt, (first, second) = split_last_answers(sides, two.names)
    return [comparison_of(prompt, first, second, probability=first_is_better)]


def _side(fields: Fields, name: str) -> tuple[Message, ...]:
    """The conversation that ends with one of the two answers."""
    if name.lower().startswith("conversation"):
        messages = answer_messages(present(fields, name), name)
        turns = [place for place, message in enumerate(messages, start=1) if message.role is Role.ASSISTANT]
        turn = fields.get("turn")  # MT-bench shows both turns and says which one the label is about
        if isinstance(turn, int) and 0 < turn < len(turns):
            messages = messages[: turns[turn - 1]]
        return with_system(messages, fields)
    asked = present(fields, prompt_name(fields) or "prompt")
    if isinstance(asked, Mapping) and "full_text" in asked:  # WebGPT keeps its question in an object
        asked = asked["full_text"]
    answer = present(fields, name)
    questions = asked if is_texts(asked) else parse_texts(asked)
    answers = parse_texts(answer)
    if questions and answers and len(answers) == len(questions):  # Chatbot Arena: all turns of each
        return _turns(questions, answers, name)
    if is_texts(asked):
        return _turns(asked, answer, name)
    context = prompt_name(fields) or "prompt"
    before = prompt_of(fields).messages if asked is fields.get(context) else prompt_messages(asked, context)
    return after_prompt(before, answer_messages(answer, name), name)


def _turns(asked: Sequence[str], answered: Any, name: str) -> tuple[Message, ...]:
    answers = answered if isinstance(answered, list) else [answered]
    if len(answers) != len(asked):
        raise DataError(f'field "{name}": expected {len(asked)} answers, one to each prompt, got {len(answers)}')
    return tuple(
        message
        for place, (question, answer) in enumerate(zip(asked, answers, strict=True))
        for message in (
            Message(role=Role.USER, content=text_value(question, "prompt")),
            *answer_messages(answer, f"{name}[{place}]"),
        )
    )


def _first_is_better(fields: Fields, two: _Two) -> float:
    """1 for the first answer, 0 for the second, one half for a tie."""
    if _ARENA[0] in fields:
        flags = [number_value(present(fields, name), name) for name in _ARENA]
        if sorted(flags) != [0, 0, 1]:
            raise DataError(f'field "{_ARENA[0]}": expected one of {", ".join(_ARENA)} to be 1, got {flags}')
        return (1.0, 0.0, 0.5)[flags.index(1)]
    name = next((one for one in _JUDGED_BY if one in fields), None)
    scores = _score_names(fields, two)
    if name is None and scores is not None:
        first, second = (number_value(fields[one], one) for one in scores)
        return 0.5 if first == second else float(first > second)
    name = name or _JUDGED_BY[0]
    value = present(fields, name)
    if name in _SIGNED or _is_number(value):
        value = number_value(value, name)
    if name in _SIGNED:
        return 0.5 if value == 0 else float(value < 0)
    if two.names[0].lower().startswith("human_ref"):  # SHP: 1 if A is preferred
        value = {0.0: two.names[1], 1.0: two.names[0]}.get(number_value(value, name), value)
    side = _named_side(value, two)
    if side is None:
        expected = f'{two.names[0]}, {two.names[1]}, {two.marks[0]}, {two.marks[1]} or "tie"'
        got = f'"{value[:40]}"' if isinstance(value, str) else f"{value:g}" if _is_number(value) else None
        raise DataError(f'field "{name}": expected {expected}, got {got}') if got else wrong(name, expected, value)
    return side


def _named_side(value: Any, two: _Two) -> float | None:
    """1 or 0 for the answer that a word or a number names, one half for a tie, None if it names neither."""
    if _is_number(value):
        value = f"{value:g}"
    if not isinstance(value, str):
        return None
    word = value.strip().lower()
    if word in _TIES:
        return 0.5
    for share, name, mark in zip((1.0, 0.0), two.names, two.marks, strict=True):
        stem = name.lower().removesuffix(mark).rstrip(" _.-")
        names = (mark, f"{mark}.0", name.lower(), *(f"{kind}{gap}{mark}" for kind in ("model", stem) for gap in "_ -"))
        if word in names:
            return share
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_summaries(fields: Fields) -> list[Example]:
    """Two summaries of a post or an article and which was chosen, as OpenAI published them."""
    info = present(fields, "info")
    if not isinstance(info, Mapping):
        raise wrong("info", "an object with the post", info)
    summaries = list_of(fields, "summaries")
    if len(summaries) != 2 or not all(isinstance(one, Mapping) for one in summaries):
        raise DataError('field "summaries": expected two objects with text')
    choice = number_value(present(fields, "choice"), "choice")
    if choice not in (0, 1):
        raise DataError(f'field "choice": expected 0 or 1, got {choice:g}')
    first, second = (answer_of(one, "text").strip() for one in summaries)
    return [comparison_of(Conversation.of_user(_post(info)), first, second, probability=1 - choice)]


def _post(info: Fields) -> str:
    """The prompt of the summaries' authors: the post under its forum and title, and an open "TL;DR:"."""
    if not info.get("post"):
        return f"{text_of(info, 'article').strip()}\n\nTL;DR:"
    heads = [("SUBREDDIT", f"r/{info['subreddit']}" if info.get("subreddit") else None), ("TITLE", info.get("title"))]
    lines = [f"{head}: {value}" for head, value in heads if value]
    return "\n\n".join([*lines, f"POST: {text_of(info, 'post').strip()}", "TL;DR:"])


PAIRWISE_FORMATS = (
    Format(name="summaries", kind=Kind.COMPARISONS, matches=has("info", "summaries", "choice"), read=read_summaries),
    Format(name="pairwise", kind=Kind.COMPARISONS, matches=_is_compared, read=read_pairwise),
)
