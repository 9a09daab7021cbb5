"""A row of a file and the readers of its fields; each error names its field in one sentence."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assent.errors import DataError
from assent.text.thoughts import with_thought
from assent.types import Conversation, Message, Role

Fields = Mapping[str, Any]

ROLES = {
    name: role
    for role, names in (
        (Role.SYSTEM, "system developer"),
        (Role.USER, "user human prompter"),
        (Role.ASSISTANT, "assistant gpt chatgpt bot model function_call"),
        (Role.TOOL, "tool function ipython observation function_response"),
    )
    for name in names.split()
}

THOUGHT_NAMES = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message carries a thought."""

LEARNED_NAMES = ("weight", "train", "training", "trainable", "loss")
"""Names under which a message says whether it is learned: 1 and true, or 0 and false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One row of a file: its `place` ("train.jsonl:118"), its fields, or the `problem` that made it unreadable.

    `cells` are the texts of the fields in a table without types. `renamed` are the fields that a setting gave one of
    our names, under the file's names.
    """

    place: str
    number: int
    fields: Fields = field(default_factory=dict)
    problem: str | None = None
    cells: Mapping[str, str] = field(default_factory=dict)
    renamed: Fields = field(default_factory=dict)


def kind_of(value: object) -> str:
    """The JSON type of a value, in words."""
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
    hint = f'; the row has "{near[0]}"; did you mean that' if near else ""
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
    """A completion without surrounding white space; an empty one raises DataError."""
    text = text_value(value, name, expected).strip()
    if not text:
        raise DataError(f'field "{name}": the completion is empty')
    return text


def answer_of(fields: Fields, name: str) -> str:
    """A completion's text field."""
    return answer_value(present(fields, name), name)


def number_value(value: object, name: str) -> float:
    """A finite number; text that spells one is parsed, because CSV has only text."""
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
    """A message of either form: {role, content} or {from, value}.

    An assistant's is stripped; its thought goes before the content, its tool calls behind it as JSON text.
    """
    if not isinstance(value, Mapping):
        raise wrong(name, "a message with role and content", value)
    who, what = ("from", "value") if "from" in value else ("role", "content")
    role = role_value(present(value, who), f"{name}.{who}")
    content = present(value, what) if what == "value" else value.get(what)
    if isinstance(content, list):
        content = "".join(_part_text(part, f"{name}.{what}") for part in content)
    if role is not Role.ASSISTANT:
        extra = {key: text_value(value.get(key) or "", f"{name}.{key}") for key in ("name", "tool_call_id")}
        text = text_value(content, f"{name}.{what}")
        return Message(role=role, content=text, name=extra["name"], tool_call_id=extra["tool_call_id"])
    calls = _tool_calls(value, content, name)
    said = "" if (calls and not content) or (value.get("from") == "function_call" and calls) else content
    thought = next((value[key] for key in THOUGHT_NAMES if value.get(key)), "")
    text = with_thought(text_value(thought, f"{name}.thinking"), text_value(said, f"{name}.{what}").strip())
    return Message(
        role=role, content=f"{text}\n{calls}".strip(), tool_calls=calls, learned=_is_learned(value, name),
        name=text_value(value.get("name") or "", f"{name}.name"),
    )  # fmt: skip


def _tool_calls(message: Fields, content: object, name: str) -> str:
    """The tool calls of a message in one form, as JSON text; empty text if it has none."""
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if message.get("from") == "function_call":
        calls = parsed_json(content)
        calls = [calls] if isinstance(calls, Mapping) else calls
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        if message.get("from") == "function_call":
            return ""  # a call that is not JSON stays text
        raise wrong(f"{name}.tool_calls", "a list of calls", calls)
    parsed = []
    for call in calls:
        whole = call if "function" in call else {"type": "function", "function": call}
        function = whole["function"]
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise DataError(f'field "{name}.tool_calls": a call has no name')
        arguments = {"arguments": parsed_json(function["arguments"])} if "arguments" in function else {}
        parsed.append({**whole, "function": {**function, **arguments}})
    return _json(parsed) if parsed else ""


def tools_of(fields: Fields) -> str:
    """The descriptions of the tools that a row offers, as JSON text; empty text for none.

    The column is `tools` or, with bare descriptions of functions, `functions`.
    """
    tools = parsed_json(fields.get("tools"))
    if not tools:
        functions = parsed_json(fields.get("functions"))
        if not isinstance(functions, list) or not all(isinstance(one, Mapping) and "name" in one for one in functions):
            return ""
        return _json([{"type": "function", "function": one} for one in functions]) if functions else ""
    if isinstance(tools, list):
        tools = [parsed_json(tool) for tool in tools]
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise wrong("tools", "a list of objects, or JSON text of one", fields["tools"])
    return _json(tools)


def _json(value: object) -> str:
    try:
        return text_value(json.dumps(value, ensure_ascii=False, allow_nan=False, default=str), "tool_calls")
    except ValueError:
        raise DataError('field "tool_calls": a number is not finite') from None


def parsed_json(value: object) -> object:
    """The object or list that a text spells in JSON; anything else unchanged."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _is_learned(message: Fields, name: str) -> bool:
    for key in LEARNED_NAMES:
        given = message.get(key)
        if given is not None and given not in (0, 1):
            raise DataError(f'field "{name}.{key}": expected 0 or 1 (a message is learned or not), got {given!r}')
        if given is not None and not given:
            return False
    return True


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
    """Messages as a prompt: they are not all empty, and the assistant speaks next."""
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
    if not any(message.role is Role.ASSISTANT and message.learned for message in messages):
        raise DataError(f'field "{name}": no assistant message is learned (weight 0)')
    return Conversation(messages=tuple(messages))


def _part_text(part: object, name: str) -> str:
    if isinstance(part, Mapping) and "text" in part:
        return text_value(part["text"], f"{name}.text")
    raise DataError(f'field "{name}": only text parts can be read, got {kind_of(part)} without "text"')
