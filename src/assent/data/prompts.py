"""Reading the prompt of a row, under the names people give it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from assent.data.rows import Fields, list_of, messages_value, present, prompt_conversation, text_value, tools_of, wrong
from assent.errors import DataError
from assent.text.transcripts import is_transcript, parse_transcript
from assent.types import Conversation, Message, Role

PROMPT_NAMES = ("prompt", "question", "query", "instruction", "messages", "conversations", "context")
"""Names of a prompt beside an answer, in order of preference."""

_OPEN_ANSWER = re.compile(r"\s*\n\n(?:## )?Assistant:\s*\Z")


def prompt_name(fields: Fields) -> str | None:
    """The name under which the row has a prompt."""
    return next((name for name in PROMPT_NAMES if name in fields), None)


def prompt_of(fields: Fields, name: str | None = None) -> Conversation:
    """The prompt of a row: text, a transcript or messages; a `system` field goes before it, Alpaca's `input` after."""
    name = name or prompt_name(fields) or "prompt"
    value = present(fields, name)
    if isinstance(value, list | Mapping):
        messages = messages_value(value, name)
    elif isinstance(value, str):
        messages = _messages_of_text(text_value(value, name))
    else:
        raise wrong(name, "text or a list of messages", value)
    if name == "instruction":
        messages = (*_history(fields), *_with_input(messages, fields))
    return prompt_conversation((*_system(fields), *messages), name, tools_of(fields))


def _messages_of_text(text: str) -> tuple[Message, ...]:
    if not is_transcript(text):
        return (Message(role=Role.USER, content=text.strip()),)
    return parse_transcript(_OPEN_ANSWER.sub("", text)).messages


def _with_input(messages: tuple[Message, ...], fields: Fields) -> tuple[Message, ...]:
    extra = fields.get("input")
    if extra is None or (isinstance(extra, str) and not extra.strip()):
        return messages
    told = f"{messages[-1].content}\n\n{text_value(extra, 'input').strip()}"
    return (*messages[:-1], Message(role=messages[-1].role, content=told.strip()))


def _system(fields: Fields) -> tuple[Message, ...]:
    told = fields.get("system")
    if not isinstance(told, str) or not told.strip():
        return ()
    return (Message(role=Role.SYSTEM, content=text_value(told, "system")),)


def _history(fields: Fields) -> list[Message]:
    """Alpaca's earlier turns: a list of [question, answer]."""
    messages = []
    for place, turn in enumerate(list_of(fields, "history") if fields.get("history") else []):
        if not isinstance(turn, list) or len(turn) != 2:
            raise DataError(f'field "history[{place}]": expected a question and an answer')
        for role, text in zip((Role.USER, Role.ASSISTANT), turn, strict=True):
            messages.append(Message(role=role, content=text_value(text, f"history[{place}]")))
    return messages
