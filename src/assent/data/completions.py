"""Reading completions: one answer as text or message, or the messages that continue the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assent.data.literals import is_message
from assent.data.rows import answer_value, messages_value, prompt_conversation
from assent.errors import DataError
from assent.text.transcripts import shared_prompt
from assent.types import Conversation, Message, Role


def is_messages(value: object) -> bool:
    """Whether this has the form of messages: objects with a role (or `from`)."""
    listed = [value] if isinstance(value, Mapping) else value
    return isinstance(listed, list) and bool(listed) and all(map(is_message, listed))


def answer_messages(value: object, name: str) -> tuple[Message, ...]:
    """The messages after a prompt; text is one assistant message."""
    if isinstance(value, list | Mapping):
        return messages_value(value, name)
    return (Message(role=Role.ASSISTANT, content=answer_value(value, name, "text or a list of messages").strip()),)


def completion_text(value: object, name: str) -> str:
    """The text of a single answer: text, or one assistant message."""
    if not isinstance(value, list | Mapping):
        return answer_value(value, name)
    messages = messages_value(value, name)
    if len(messages) > 1:
        raise DataError(
            f'field "{name}": one label or score is given for {len(messages)} messages; give one answer, '
            "and put earlier messages into the prompt"
        )
    return message_text(messages[0], name)


def message_text(message: Message, name: str) -> str:
    """The text of an answer's message."""
    if message.role is not Role.ASSISTANT:
        raise DataError(f'field "{name}": expected an assistant message, got a message of {message.role}')
    return answer_value(message.content, name)


def split_last_answers(sides: Sequence[tuple[Message, ...]], names: tuple[str, str]) -> tuple[Conversation, list[str]]:
    """The shared prompt of two conversations, and their last answers; they may differ only there."""
    first, second = (Conversation(messages=side) for side in sides)
    try:
        shared = shared_prompt(first, second)
    except DataError as error:
        what = error.what.replace('"chosen"', f'"{names[0]}"').replace('"rejected"', f'"{names[1]}"')
        raise DataError(what) from error
    prompt = prompt_conversation(shared.messages, names[0])
    return prompt, [message_text(side[-1], name) for side, name in zip(sides, names, strict=True)]


def after_prompt(prompt: Sequence[Message], side: tuple[Message, ...], name: str) -> tuple[Message, ...]:
    """The conversation of a prompt and a side that continues it, or contains it already (whole or in part)."""
    if begins(side, prompt):
        return side
    systems, spoken = _parted(prompt)
    own_systems, said = _parted(side)
    if spoken and begins(said, spoken) and not (systems and own_systems):
        return (*systems, *side)
    if not own_systems and (not spoken or side[0].role is not Role.USER):
        return (*prompt, *side)
    asked = _told(spoken[-1]) if spoken else None
    if len(prompt) == len(spoken) == 1 and any(
        _told(message) == asked for message in side if message.role is Role.USER
    ):
        return side  # the prompt is one of the questions of a longer conversation
    raise DataError(f'field "{name}": the conversation neither begins with the prompt nor continues it')


def _parted(messages: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """System messages, and all others."""
    systems = tuple(message for message in messages if message.role is Role.SYSTEM)
    return systems, tuple(message for message in messages if message.role is not Role.SYSTEM)


def begins(side: Sequence[Message], prompt: Sequence[Message]) -> bool:
    """Whether a conversation begins with a prompt and is longer; white space is ignored."""
    return len(side) > len(prompt) and [_told(one) for one in side[: len(prompt)]] == [_told(one) for one in prompt]


def _told(message: Message) -> tuple[Role, str]:
    return message.role, " ".join(message.content.split())
