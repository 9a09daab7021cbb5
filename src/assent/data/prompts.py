"""Reading the prompt of a row, under the names people give it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from assent.data.columns import is_given
from assent.data.rows import Fields, list_of, messages_value, present, prompt_conversation, text_value, wrong
from assent.errors import DataError
from assent.text.transcripts import is_transcript, parse_transcript
from assent.types import Conversation, Message, Role

PROMPT_NAMES = (
    *("prompt", "question", "query", "instruction", "messages", "conversations", "conversation", "context"),
    *("history", "input"),
)
"""Names of a prompt beside an answer, in order of preference."""

_SYSTEM_NAMES = ("system", "system_prompt")
_OPEN_ANSWER = re.compile(r"\s*\n\n(?:## )?Assistant:\s*\Z")
_HELPSTEER_TURN = re.compile(r"\s*<extra_id_1>(User|Assistant)\s*\n")


def prompt_name(fields: Fields) -> str | None:
    """The name under which the row has a prompt; one that is empty only if there is no other."""
    names = [name for name in PROMPT_NAMES if name in fields]
    return next((name for name in names if is_given(fields[name])), names[0] if names else None)


def prompt_of(fields: Fields, name: str | None = None) -> Conversation:
    """The prompt of a row: text, a transcript or messages; somebody has said something, and the assistant is next."""
    name = name or prompt_name(fields) or "prompt"
    return prompt_conversation(whole_prompt(fields, name), name)


def whole_prompt(fields: Fields, name: str) -> tuple[Message, ...]:
    """The prompt with what belongs to it.

    A `system` field goes before it; Alpaca's `input` and Dolly's `context` follow an instruction, and a `context`
    stands before a question.
    """
    messages = prompt_messages(present(fields, name), name)
    if name == "instruction":
        messages = (*_history(fields), *_joined(_joined(messages, fields, "input"), fields, "context"))
    elif name == "question":
        messages = _joined(messages, fields, "context", before=True)
    return with_system(messages, fields)


def prompt_messages(value: object, name: str) -> tuple[Message, ...]:
    """What a field says as messages: text is the user's, unless it is a transcript."""
    if isinstance(value, list | Mapping):
        return messages_value(value, name)
    if isinstance(value, str):
        return _messages_of_text(text_value(value, name))
    raise wrong(name, "text or a list of messages", value)


def with_system(messages: tuple[Message, ...], fields: Fields) -> tuple[Message, ...]:
    """The messages after the row's system prompt; a second, different one is an error."""
    name = next((name for name in _SYSTEM_NAMES if is_given(fields.get(name))), None)
    if name is None:
        return messages
    told = text_value(fields[name], name)
    if not told.strip():
        return messages
    if messages and messages[0].role is Role.SYSTEM:
        if messages[0].content.strip() == told.strip():
            return messages
        raise DataError(f'field "{name}": the messages begin with another system prompt')
    return (Message(role=Role.SYSTEM, content=told), *messages)


def _messages_of_text(text: str) -> tuple[Message, ...]:
    if "<extra_id_1>" in text:
        turns = _HELPSTEER_TURN.split(text)  # the first turn has no header
        said = zip(("User", *turns[1::2]), turns[::2], strict=True)
        roles = {"User": Role.USER, "Assistant": Role.ASSISTANT}
        return tuple(Message(role=roles[who], content=told.strip()) for who, told in said if told.strip())
    if not is_transcript(text):
        return (Message(role=Role.USER, content=text.strip()),)
    return parse_transcript(_OPEN_ANSWER.sub("", text)).messages


def _joined(messages: tuple[Message, ...], fields: Fields, name: str, *, before: bool = False) -> tuple[Message, ...]:
    """The messages with the text of another field beside the last of them."""
    extra = fields.get(name)
    if not is_given(extra) or (isinstance(extra, str) and not extra.strip()):
        return messages
    parts = [messages[-1].content, text_value(extra, name).strip()]
    told = "\n\n".join(reversed(parts) if before else parts)
    return (*messages[:-1], replace(messages[-1], content=told.strip()))


def _history(fields: Fields) -> list[Message]:
    """Alpaca's earlier turns: a list of [question, answer]."""
    messages = []
    for place, turn in enumerate(list_of(fields, "history") if fields.get("history") else []):
        if not isinstance(turn, list) or len(turn) != 2:
            raise DataError(f'field "history[{place}]": expected a question and an answer')
        for role, text in zip((Role.USER, Role.ASSISTANT), turn, strict=True):
            messages.append(Message(role=role, content=text_value(text, f"history[{place}]")))
    return messages
