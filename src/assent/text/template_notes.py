"""What a chat template leaves out of conversations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from assent.text.rendering import Rendering
from assent.types import Conversation


def template_notes(rendering: Rendering, conversations: Iterable[Conversation]) -> tuple[str, ...]:
    """What the template leaves out of these conversations, or writes as plain text, in sentences for people."""

    def ignores(talk: Conversation, without: Conversation) -> bool:
        return rendering.render(talk) == rendering.render(without)

    def ignores_names(talk: Conversation) -> bool:
        bare = tuple(replace(message, name="", tool_call_id="") for message in talk.messages)
        return bare != talk.messages and ignores(talk, replace(talk, messages=bare))

    talks = list(dict.fromkeys(conversations))
    calls = 0 if rendering.calls_as else sum(bool(message.tool_calls) for talk in talks for message in talk.messages)
    tools = sum(bool(talk.tools) and ignores(talk, replace(talk, tools="")) for talk in talks)
    names = sum(map(ignores_names, talks))
    notes = (
        (tools, f"the tools of {tools} conversations are left out: the chat template has no place for tools"),
        (calls, f"the tool calls of {calls} messages are written as JSON text: the chat template has no form for them"),
        (names, f"name and tool_call_id in {names} conversations are left out: the chat template does not write them"),
    )
    return tuple(note for count, note in notes if count)
