"""Checks of examples that a program made, as strict as for rows of a file: dataclasses check nothing."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from assent.data.in_memory import called
from assent.data.rows import answer_value, demonstration_conversation, prompt_conversation, text_value
from assent.errors import DataError
from assent.types import Comparison, Conversation, Demonstration, Ranking, Rating, RewardedDialogue, Role

Own = Demonstration | RewardedDialogue | Comparison | Ranking | Rating | Conversation
_hints = cache(get_type_hints)


def check_examples(examples: Sequence[Any]) -> None:
    """DataError for what no file could hold: fields of wrong types, empty texts, ranks that do not fit."""
    for number, example in enumerate(examples, start=1):
        place = f"row {number} ({type(example).__name__})"
        if not isinstance(example, Own):
            raise DataError(
                "this row is of another kind than the others", where=f"row {number}",
                now="Give rows of one kind: dicts, or examples of assent.types.",
            )  # fmt: skip
        try:
            _check_types(example, type(example), "")
            _check_sense(example)
        except DataError as error:
            raise DataError(error.what, where=place, now=error.now) from None


def _check_types(value: Any, wanted: Any, name: str) -> None:
    """Compare a value with an annotation, field by field; annotations of no known form say nothing."""
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        _demand(isinstance(value, wanted), value, wanted, name)
        for field, inner in _hints(wanted).items():
            _check_types(getattr(value, field), inner, f"{name}.{field}" if name else field)
    elif get_origin(wanted) in (types.UnionType, Union):
        if not (value is None and type(None) in get_args(wanted)):
            _check_types(value, next(one for one in get_args(wanted) if one is not type(None)), name)
    elif get_origin(wanted) is tuple:
        _demand(isinstance(value, tuple), value, tuple, name)
        for place, item in enumerate(value):
            _check_types(item, get_args(wanted)[0], f"{name}[{place}]")
    elif wanted is float:
        _demand(isinstance(value, int | float) and not isinstance(value, bool), value, wanted, name)
        if not math.isfinite(value):
            raise DataError(f'field "{name}": expected a finite number, got {value}')
    elif wanted is str:
        _demand(isinstance(value, str), value, wanted, name)
        text_value(value, name)
    elif isinstance(wanted, type):
        _demand(isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)), value, wanted, name)


def _demand(right: bool, value: object, wanted: type, name: str) -> None:
    if not right:
        module = "assent.types." if wanted.__module__ == "assent.types" else ""
        raise DataError(f'field "{name}": expected {module}{wanted.__name__}, got {called(value)}')


def _check_sense(example: Own) -> None:
    if isinstance(example, Conversation):
        prompt_conversation(example.messages, "messages")
    elif isinstance(example, Demonstration):
        demonstration_conversation(example.conversation.messages, "conversation")
    elif isinstance(example, RewardedDialogue):
        messages = demonstration_conversation(example.conversation.messages, "conversation").messages
        learned = sum(message.role is Role.ASSISTANT and message.learned for message in messages)
        if len(example.rewards) != learned:
            raise DataError(
                f"{learned} messages of the assistant are learned, and there are {len(example.rewards)} rewards"
            )
    elif isinstance(example, Rating):
        answer_value(example.completion.text, "completion")
        if example.prompt.messages:
            prompt_conversation(example.prompt.messages, "prompt")
    elif isinstance(example, Ranking):
        prompt_conversation(example.prompt.messages, "prompt")
        texts = [answer_value(one.text, f"completions[{place}]") for place, one in enumerate(example.completions)]
        if len(texts) < 2 or len(example.ranks) != len(texts):
            raise DataError(f"{len(texts)} completions have {len(example.ranks)} ranks; give two or more")
        if min(example.ranks) < 1:
            raise DataError(f'field "ranks": 1 is best, got {min(example.ranks)}')
    else:
        prompt_conversation(example.prompt.messages, "prompt")
        if answer_value(example.chosen.text, "chosen") == answer_value(example.rejected.text, "rejected"):
            raise DataError("the two completions are identical")
        if not 0 <= example.probability <= 1:
            raise DataError(f'field "probability": expected 0 to 1, got {example.probability:g}')
        if example.margin < 0:
            raise DataError(f'field "margin": expected 0 or more, got {example.margin:g}')
