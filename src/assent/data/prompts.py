"""Reading the prompt of a row, under any usual name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from assent.data.columns import has_value, peek
from assent.data.literals import is_texts
from assent.data.rows import Fields, list_of, messages_value, present, prompt_conversation, text_value, wrong
from assent.errors import DataError
from assent.text.transcripts import is_transcript, parse_transcript
from assent.types import Conversation, Message, Role

PROMPT_NAMES = (
    *("prompt", "question", "query", "instruction", "messages", "conversations", "conversation", "context"),
    *("history", "input"),
)
"""Names of a prompt in a row with an answer, in order of preference."""

_SYSTEM_NAMES = ("system", "system_prompt", "system_message", "system_instruction", "system_instructions")
_OPEN_ANSWER = re.compile(r"\s*\n\n(?:## )?Assistant:\s*\Z")
_HELPSTEER_TURN = re.compile(r"\s*<extra_id_1>(User|Assistant)\s*\n")


def prompt_name(fields: Fields) -> str | None:
    """The name of the row's prompt; an empty one only if there is no other."""
    names = [name for name in PROMPT_NAMES if name in fields]
    return next((name for name in names if has_value(fields[name])), names[0] if names else None)


def prompt_of(fields: Fields, name: str | None = None) -> Conversation:
    """The prompt of a row (text, a transcript or messages): it is not empty, and the assistant speaks next."""
    name = name or prompt_name(fields) or "prompt"
    return prompt_conversation(whole_prompt(fields, name), name)


def whole_prompt(fields: Fields, name: str) -> tuple[Message, ...]:
    """The prompt with its system prompt and its context.

    A system prompt and earlier turns in `history` go before it. If the prompt is text, an `input` follows it, and a
    `context` goes before it, or after an instruction (Dolly).
    """
    value = present(fields, name)
    messages = prompt_messages(value, name)
    if isinstance(value, str):
        messages = _joined(messages, fields, "input", name)
        messages = _joined(messages, fields, "context", name, before=name != "instruction")
        messages = messages if name == "history" else _after_history(messages, fields)
    return with_system(messages, fields)


def prompt_messages(value: object, name: str) -> tuple[Message, ...]:
    """A field as messages: text is a user message, unless it is a transcript."""
    if isinstance(value, list | Mapping):
        return messages_value(value, name)
    if isinstance(value, str):
        return _messages_of_text(text_value(value, name))
    raise wrong(name, "text or a list of messages", value)


def with_system(messages: tuple[Message, ...], fields: Fields) -> tuple[Message, ...]:
    """The messages with the row's system prompt before them; a second, different one raises DataError."""
    name = next((name for name in _SYSTEM_NAMES if has_value(fields.get(name))), None)
    if name is None:
        return messages
    system = text_value(fields[name], name)
    if not system.strip():
        return messages
    if messages and messages[0].role is Role.SYSTEM:
        if messages[0].content.strip() == system.strip():
            return messages
        raise DataError(f'field "{name}": the messages begin with another system prompt')
    return (Message(role=Role.SYSTEM, content=system), *messages)


def _messages_of_text(text: str) -> tuple[Message, ...]:
    if "<extra_id_1>" in text:
        turns = _HELPSTEER_TURN.split(text)  # the first turn has no header
        said = zip(("User", *turns[1::2]), turns[::2], strict=True)
        roles = {"User": Role.USER, "Assistant": Role.ASSISTANT}
        return tuple(Message(role=roles[who], content=content.strip()) for who, content in said if content.strip())
    if not is_transcript(text):
        return (Message(role=Role.USER, content=text.strip()),)
    return parse_transcript(_OPEN_ANSWER.sub("", text)).messages


def _joined(
    messages: tuple[Message, ...], fields: Fields, name: str, prompt: str, *, before: bool = False
) -> tuple[Message, ...]:
    """The messages with the text of another field added to the last one, unless they contain it already."""
    extra = peek(fields, name)
    if name == prompt or not has_value(extra) or not isinstance(extra, str | list):
        return messages
    extra = "\n\n".join(fields[name]) if is_texts(extra) else text_value(fields[name], name).strip()
    if any(extra in message.content for message in messages):
        return messages
    parts = [messages[-1].content, extra]
    joined = "\n\n".join(reversed(parts) if before else parts)
    return (*messages[:-1], replace(messages[-1], content=joined.strip()))


def _after_history(messages: tuple[Message, ...], fields: Fields) -> tuple[Message, ...]:
    """The messages after earlier turns: a list of [question, answer], messages, a transcript, or text."""
    history = fields.get("history")
    if not has_value(history):
        return messages
    if isinstance(history, str) and not is_transcript(history):
        return _joined(messages, fields, "history", "", before=True)
    if isinstance(history, str) or (isinstance(history, list) and isinstance(history[0], Mapping)):
        return (*prompt_messages(history, "history"), *messages)
    earlier = []
    for place, turn in enumerate(list_of(fields, "history")):
        if not isinstance(turn, list) or len(turn) != 2:
            raise DataError(f'field "history[{place}]": expected a question and an answer')
        for role, text in zip((Role.USER, Role.ASSISTANT), turn, strict=True):
            earlier.append(Message(role=role, content=text_value(text, f"history[{place}]")))
    return (*earlier, *messages)
