"""Notes on the messages of a file: unread fields, tools, turns that are not learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assent.data.dialogues import REWARD
from assent.data.examples import Example
from assent.data.literals import parse_texts
from assent.data.rows import LEARNED_NAMES, THOUGHT_NAMES, SourceRow
from assent.types import Conversation, Demonstration, RewardedDialogue, Role

_READ = {
    *("role", "content", "from", "value", "name", "tool_call_id", "tool_calls", "function_call"),
    *THOUGHT_NAMES,
    *LEARNED_NAMES,
}


def message_notes(rows: Sequence[SourceRow], examples: Sequence[Example]) -> tuple[str, ...]:
    """Sentences for people; none if nothing is left out."""
    rewarded = any(isinstance(one, RewardedDialogue) for one in examples)
    known = {*_READ, REWARD} if rewarded else _READ
    unread = Counter(
        str(name)
        for row in rows
        for message in _messages(row.fields)
        for name, value in message.items()
        if name not in known and value not in (None, [], {}, "")
    )
    offered = sum(bool(row.fields.get("tools") or row.fields.get("functions")) for row in rows)
    talks = [talk for talk in map(_conversation, examples) if talk is not None]
    read = sum(bool(talk.tools) for talk in talks)
    messages = (message for talk in talks for message in talk.messages)
    context = sum(message.role is Role.ASSISTANT and not message.learned for message in messages)
    lists = sum(bool(parse_texts(row.fields.get("chosen")) and parse_texts(row.fields.get("rejected"))) for row in rows)
    listed = ", ".join(f"{name} ({count})" for name, count in unread.most_common(8))
    notes = [
        f"fields of messages that are not read: {listed}" if unread else "",
        f"{read} conversations come with tools" if read else "",
        f"the tools of {offered} rows are not read in this format" if offered and not read else "",
        f"{lists} rows have lists as answers; --format good-and-bad reads each as several answers" if lists else "",
        f"{context} assistant messages are context and not learned" if context else "",
    ]
    return tuple(note for note in notes if note)


def _messages(value: object) -> Iterator[Mapping[str, Any]]:
    """All messages inside a row, at any depth."""
    if isinstance(value, Mapping):
        if isinstance(value.get("role", value.get("from")), str) and value.keys() & {"content", "value", "tool_calls"}:
            yield value
        else:
            for each in value.values():
                yield from _messages(each)
    elif isinstance(value, list):
        for each in value:
            yield from _messages(each)


def _conversation(example: Example) -> Conversation | None:
    if isinstance(example, Demonstration | RewardedDialogue):
        return example.conversation
    if isinstance(example, str):
        return None
    return example if isinstance(example, Conversation) else example.prompt
