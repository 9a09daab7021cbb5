"""Conversations written as one text: "\\n\\nHuman: ...\\n\\nAssistant: ...", the form of the HH-RLHF files."""

from __future__ import annotations

import re

from assent.errors import DataError
from assent.types import Conversation, Message, Role

# a header stands at the start of the text or after an empty line; "## Human:" is how some collections write it
_HEADER = re.compile(r"(?:\A\s*|\n\n)(?:## )?(Human|Assistant|System|Tool):")
_ROLES = {"Human": Role.USER, "Assistant": Role.ASSISTANT, "System": Role.SYSTEM, "Tool": Role.TOOL}
_HEADERS = {role: f"\n\n{header}:" for header, role in _ROLES.items()}


def is_transcript(text: str) -> bool:
    """Whether `text` begins with the header of a turn and an assistant has one."""
    return _HEADER.match(text) is not None and "Assistant:" in text


def parse_transcript(text: str) -> Conversation:
    """The messages of a transcript, each stripped; consecutive turns of one writer are read as one turn.

    Raises DataError for a text that does not begin with a header. A last turn with nothing after its header is kept
    as an empty message.
    """
    start = _HEADER.match(text)
    if start is None:
        raise DataError('expected a transcript that begins with "\\n\\nHuman:"')
    parts = _HEADER.split(text)[1:]
    messages: list[Message] = []
    for header, body in zip(parts[::2], parts[1::2], strict=True):
        role, content = _ROLES[header], body.strip()
        if messages and messages[-1].role is role:
            joined = "\n\n".join(part for part in (messages[-1].content, content) if part)
            messages[-1] = Message(role=role, content=joined)
        else:
            messages.append(Message(role=role, content=content))
    return Conversation(messages=tuple(messages))


def format_transcript(conversation: Conversation) -> str:
    """The conversation as one text; `parse_transcript` reads it back if no message holds a header."""
    return "".join(f"{_HEADERS[message.role]} {message.content}".rstrip(" ") for message in conversation.messages)


def shared_prompt(chosen: Conversation, rejected: Conversation) -> Conversation:
    """The prompt of two conversations that differ in their last assistant message only.

    Raises DataError if they part earlier, or if one does not end with the assistant.
    """
    for name, conversation in (("chosen", chosen), ("rejected", rejected)):
        if not conversation.messages or conversation.messages[-1].role is not Role.ASSISTANT:
            raise DataError(f'"{name}" does not end with the assistant')
    if chosen.messages[:-1] != rejected.messages[:-1]:
        pairs = zip(chosen.messages, rejected.messages, strict=False)
        same = next((place for place, (left, right) in enumerate(pairs) if left != right), 0)
        raise DataError(f'"chosen" and "rejected" part at message {same + 1}, before their last answers')
    return Conversation(messages=chosen.messages[:-1])
