"""A row of a file and how its fields are read: each wrong field has one sentence that names it."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assent.errors import DataError
from assent.types import Conversation, Message, Role

Fields = Mapping[str, Any]

ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "human": Role.USER,
    "prompter": Role.USER,
    "assistant": Role.ASSISTANT,
    "gpt": Role.ASSISTANT,
    "chatgpt": Role.ASSISTANT,
    "bot": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "function_call": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
    "ipython": Role.TOOL,
    "observation": Role.TOOL,
    "function_response": Role.TOOL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One row of a file: `place` as people find it ("train.jsonl:118"), its fields, or why it could not be read."""

    place: str
    number: int
    fields: Fields = field(default_factory=dict)
    problem: str | None = None


def kind_of(value: object) -> str:
    """What a value is, in the words of a JSON file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, Mapping) else type(value).__name__


def wrong(name: str, expected: str, value: object) -> DataError:
    """The error for a field of the wrong type."""
    return DataError(f'field "{name}": expected {expected}, got {kind_of(value)}')


def present(fields: Fields, name: str) -> Any:
    """The field's value; a missing field is an error that names a near miss."""
    if name in fields:
        return fields[name]
    near = difflib.get_close_matches(name, [str(key) for key in fields], n=1, cutoff=0.6)
    hint = f'; the row has "{near[0]}": did you mean that' if near else ""
    raise DataError(f'field "{name}" is missing{hint}')


def text_value(value: object, name: str, expected: str = "text") -> str:
    """`value` as text that can be encoded."""
    if not isinstance(value, str):
        raise wrong(name, expected, value)
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f'field "{name}": broken Unicode (half of a surrogate pair)') from error
    return value


def text_of(fields: Fields, name: str) -> str:
    """A text field."""
    return text_value(present(fields, name), name)


def answer_value(value: object, name: str, expected: str = "text") -> str:
    """Text that somebody answered: empty or blank is an error."""
    text = text_value(value, name, expected)
    if not text.strip():
        raise DataError(f'field "{name}": the completion is empty')
    return text


def answer_of(fields: Fields, name: str) -> str:
    """A completion's text field."""
    return answer_value(present(fields, name), name)


def number_value(value: object, name: str) -> float:
    """A finite number; text that spells one (CSV has nothing else) is read."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise wrong(name, "a number", value) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f'field "{name}": expected a finite number, got {number}')
    return number


def list_of(fields: Fields, name: str) -> list[Any]:
    """A list field."""
    value = present(fields, name)
    if not isinstance(value, list):
        raise wrong(name, "a list", value)
    return value


def role_value(value: object, name: str) -> Role:
    """A role under any of its usual names."""
    text = text_value(value, name, "a role").strip().lower()
    if text not in ROLES:
        near = difflib.get_close_matches(text, ROLES, n=1)
        known = f'did you mean "{near[0]}"' if near else "known are system, user, assistant, tool"
        raise DataError(f'field "{name}": unknown role "{text[:40]}"; {known}')
    return ROLES[text]


def message_value(value: object, name: str) -> Message:
    """A message of either form: {role, content} or {from, value}. Tool calls become JSON text of the assistant."""
    if not isinstance(value, Mapping):
        raise wrong(name, "a message with role and content", value)
    if "from" in value:
        role, content = role_value(value["from"], f"{name}.from"), present(value, "value")
        return Message(role=role, content=text_value(content, f"{name}.value"))
    role, content = role_value(present(value, "role"), f"{name}.role"), value.get("content")
    if isinstance(content, list):
        content = "".join(_part_text(part, f"{name}.content") for part in content)
    if not content and value.get("tool_calls"):
        content = json.dumps(value["tool_calls"], ensure_ascii=False, default=str)
    return Message(role=role, content=text_value(content, f"{name}.content"))


def messages_value(value: object, name: str) -> tuple[Message, ...]:
    """A non-empty list of messages."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise wrong(name, "a list of messages", value)
    if not value:
        raise DataError(f'field "{name}": the list of messages is empty')
    return tuple(message_value(message, f"{name}[{place}]") for place, message in enumerate(value))


def prompt_conversation(messages: Sequence[Message], name: str) -> Conversation:
    """Messages as a prompt: somebody has said something, and the assistant is next."""
    if messages and messages[-1].role is Role.ASSISTANT:
        raise DataError(f'field "{name}": the prompt ends with the assistant; it must end with the user or a tool')
    if not any(message.content.strip() for message in messages):
        raise DataError(f'field "{name}": the prompt is empty')
    return Conversation(messages=tuple(messages))


def demonstration_conversation(messages: Sequence[Message], name: str) -> Conversation:
    """Messages as a demonstration: the assistant has the last word, and none of its messages is empty."""
    if not messages or messages[-1].role is not Role.ASSISTANT:
        last = messages[-1].role.value if messages else "nothing"
        raise DataError(f'field "{name}": the conversation ends with {last}; it must end with the assistant')
    if any(message.role is Role.ASSISTANT and not message.content.strip() for message in messages):
        raise DataError(f'field "{name}": the completion is empty')
    return Conversation(messages=tuple(messages))


def _part_text(part: object, name: str) -> str:
    if isinstance(part, Mapping) and "text" in part:
        return text_value(part["text"], f"{name}.text")
    raise DataError(f'field "{name}": only text parts can be read, got {kind_of(part)} without "text"')
