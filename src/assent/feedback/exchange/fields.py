"""Reading the fields of a row: what is wrong is one sentence that names the field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from assent.errors import DataError
from assent.feedback.exchange.imported_items import ImportLimits
from assent.feedback.records import Candidate
from assent.feedback.votes import is_prompt, is_text
from assent.types import Conversation, Message, Role, StopReason

Fields = Mapping[str, Any]

PROMPT_NAMES = ("prompt", "instruction", "question", "query", "input", "context", "text")
TIES = ("tie", "both", "equal", "same", "neither")  # choices of other tools that prefer nothing

_ROLES = {
    "system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "human": Role.USER, "prompter": Role.USER,
    "assistant": Role.ASSISTANT, "gpt": Role.ASSISTANT, "model": Role.ASSISTANT, "bot": Role.ASSISTANT,
    "tool": Role.TOOL, "function": Role.TOOL,
}  # fmt: skip
_COMPLETION = re.compile(
    r"(response|completion|answer|reply|generation|output|candidate|text)[ _.-]?([0-9]{1,2}|[a-i])", re.IGNORECASE
)


def wrong(name: str, expected: str, value: object) -> DataError:
    """The error for a field of the wrong kind."""
    told = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!a}"
    return DataError(f'field "{name}": expected {expected}, got {told}')


def text_value(value: object, name: str, limits: ImportLimits, *, blank: bool = False) -> str:
    """Text that a store can hold, and not blank unless `blank`."""
    if not isinstance(value, str):
        raise wrong(name, "text", value)
    if len(value) > limits.characters:
        raise DataError(f'field "{name}": {len(value):,} characters, at most {limits.characters:,} can be kept')
    if not is_text(value) or "\0" in value:
        raise DataError(f'field "{name}": broken Unicode or a NUL character')
    if not blank and not value.strip():
        raise DataError(f'field "{name}": the text is empty')
    return value


def list_value(value: object, name: str) -> Sequence[Any]:
    """A list."""
    if not isinstance(value, list | tuple):
        raise wrong(name, "a list", value)
    return value


def object_value(value: object, name: str) -> Fields:
    """An object."""
    if not isinstance(value, Mapping):
        raise wrong(name, "an object", value)
    return value


def whole_value(value: object, name: str, low: int, high: int) -> int:
    """A whole number in a range; text that spells one (CSV has nothing else) is read."""
    number = number_value(value, name)
    if number != int(number) or not low <= number <= high:
        raise DataError(f'field "{name}": expected a whole number from {low} to {high}, got {number:g}')
    return int(number)


def number_value(value: object, name: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong(name, "a number", value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise wrong(name, "a number", value) from None
    if not math.isfinite(number):
        raise DataError(f'field "{name}": expected a finite number, got {number}')
    return number


def truth_value(value: object, name: str) -> bool:
    """true or false; CSV spells them."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    told = value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if told is None:
        raise wrong(name, "true or false", value)
    return told


def conversation_value(value: object, name: str, limits: ImportLimits) -> Conversation:
    """A prompt: text, or messages that the assistant is to answer."""
    if isinstance(value, str):
        return Conversation.of_user(text_value(value, name, limits))
    listed = list_value(value, name)
    if len(listed) > limits.messages:
        raise DataError(f'field "{name}": {len(listed)} messages, at most {limits.messages} can be kept')
    messages = tuple(_message(message, f"{name}[{place}]", limits) for place, message in enumerate(listed))
    conversation = Conversation(messages=messages)
    if not is_prompt(conversation):
        raise DataError(f'field "{name}": the prompt is empty or ends with the assistant')
    return conversation


def _message(value: object, name: str, limits: ImportLimits) -> Message:
    fields = object_value(value, name)
    role_name, content_name = ("from", "value") if "from" in fields else ("role", "content")
    role = _ROLES.get(str(fields.get(role_name)).strip().lower())
    if role is None:
        raise wrong(f"{name}.{role_name}", "system, user, assistant or tool", fields.get(role_name))
    content = text_value(fields.get(content_name), f"{name}.{content_name}", limits, blank=True)
    return Message(role=role, content=content)


def candidate_value(value: object, name: str, limits: ImportLimits) -> Candidate:
    """A completion: text, an assistant's message, or {text, stop, model, checkpoint_sha256, sampling}."""
    if isinstance(value, str):
        return Candidate(text=text_value(value, name, limits))
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    fields = object_value(value, name)
    if "role" in fields or "from" in fields:
        message = _message(fields, name, limits)
        if message.role is not Role.ASSISTANT:
            raise DataError(f'field "{name}": expected a message of the assistant, got one of {message.role}')
        return Candidate(text=text_value(message.content, f"{name}.content", limits))
    sampling, sha256 = fields.get("sampling") or {}, fields.get("checkpoint_sha256") or ""
    return Candidate(
        text=text_value(fields.get("text"), f"{name}.text", limits),
        stop=stop_value(fields.get("stop", "end"), f"{name}.stop"),
        model=text_value(fields.get("model") or "", f"{name}.model", limits, blank=True),
        checkpoint_sha256=text_value(sha256, f"{name}.checkpoint_sha256", limits, blank=True),
        sampling=dict(object_value(sampling, f"{name}.sampling")),
    )


def stop_value(value: object, name: str) -> StopReason:
    """Why a completion ended."""
    try:
        return StopReason(str(value))
    except ValueError:
        raise wrong(name, f"one of {', '.join(StopReason)}", value) from None


def candidates_value(value: object, name: str, limits: ImportLimits) -> tuple[Candidate, ...]:
    """The completions of an item."""
    listed = list_value(value, name)
    if len(listed) > limits.completions:
        told = f"{len(listed)} completions, at most {limits.completions} can be labelled at once"
        raise DataError(f'field "{name}": {told}')
    return tuple(candidate_value(one, f"{name}[{place}]", limits) for place, one in enumerate(listed))


def completion_names(fields: Fields) -> list[str]:
    """Fields named like completions (response-1, answer2, completion_b, ...), in the order of their numbers."""

    def place(match: re.Match[str]) -> tuple[str, int]:
        return match[1].lower(), int(match[2]) if match[2].isdigit() else ord(match[2].lower())

    found = [(match, name) for name in fields if (match := _COMPLETION.fullmatch(str(name)))]
    return [name for _, name in sorted(found, key=lambda pair: place(pair[0]))]
