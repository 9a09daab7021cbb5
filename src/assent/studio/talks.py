"""Talks with models: what was said, the answers that wait for an annotation, and how an annotation goes on.

A chat's turns are events, so its state can always be read back from the store. The turn that is not annotated yet, and
the whole of a red-team talk until it is rated, are kept there beside the events (`state_of`), so that a server that
starts again goes on with them (`recalled`).
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from assent.feedback.records import (
    Event,
    EventKind,
    Presentation,
    TaskMode,
    conversation_from_json,
    conversation_to_json,
)
from assent.types import Conversation, Message, Role, StopReason

MOST_TURNS = 100
_MOST_TALKS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One model's answer to the last message, with how it was asked for."""

    endpoint: str
    text: str
    stop: StopReason
    sampling: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Answers that wait for an annotation; `conversation` ends with the message that they answer."""

    id: str
    conversation: Conversation
    sides: tuple[Side, ...]

    def payload(self, choice: str, number: int) -> dict[str, Any]:
        """The annotated turn as it is kept."""
        first, second = self.sides[0], self.sides[1] if len(self.sides) == 2 else None
        return {
            "conversation": conversation_to_json(self.conversation),
            "a": first.text,
            "b": second.text if second else None,
            "choice": choice,
            "turn": number,
            "models": [first.endpoint, second.endpoint if second else None],
            "sampling": [dict(first.sampling), dict(second.sampling) if second else None],
            # of two that are level the talk goes on with the first, whose place was drawn by lot
            "goes_on": {"a": "a", "b": "b", "tie": "a", "both_bad": None}[choice],
        }


@dataclass(slots=True)
class Talk:
    """One person's talk under one presentation. `annotated` are the numbers of its standing turns, oldest first."""

    presentation: Presentation
    mode: TaskMode
    messages: tuple[Message, ...] = ()
    suggestion: str = ""
    annotated: tuple[int, ...] = ()
    pending: Turn | None = None
    claimed: str = ""  # the key of an annotation of it that is being kept
    busy: bool = False
    model: str = ""  # of a red-team talk
    sampling: Mapping[str, float] = field(default_factory=dict)

    @property
    def turns(self) -> int:
        """Turns so far that count."""
        if self.mode is TaskMode.CHAT:
            return len(self.annotated)
        return sum(message.role is Role.ASSISTANT for message in self.messages) - self._given

    @property
    def _given(self) -> int:
        prompt = self.presentation.item.new.prompt.messages
        return sum(message.role is Role.ASSISTANT for message in prompt)

    def asking(self, text: str) -> Conversation:
        """The conversation with one more message from the annotator."""
        return Conversation(messages=(*self.messages, Message(role=Role.USER, content=text)))


def fresh(presentation: Presentation, mode: TaskMode) -> Talk:
    """A talk in which nothing has been said; a prompt's last message is a suggestion for the first."""
    messages = presentation.item.new.prompt.messages
    if messages and messages[-1].role is Role.USER:
        return Talk(presentation, mode, messages[:-1], messages[-1].content)
    return Talk(presentation, mode, messages)


def retold(presentation: Presentation, newest_first: Iterable[Event]) -> Talk:
    """The chat as the store knows it, from the person's own events."""
    undone: set[int] = set()
    turns: list[Event] = []
    for event in newest_first:
        if event.kind is EventKind.UNDO and event.undone_seq is not None:
            undone.add(event.undone_seq)
        elif event.kind is EventKind.CHAT_TURN and event.item_id == presentation.item.id and event.seq not in undone:
            turns.append(event)
    talk = fresh(presentation, TaskMode.CHAT)
    talk.annotated = tuple(event.seq for event in reversed(turns))
    if turns:
        talk.suggestion = ""
        payload = turns[0].payload
        conversation, chosen = conversation_from_json(payload["conversation"]), payload.get("goes_on")
        kept = conversation.messages[:-1] if chosen is None else conversation.then(str(payload[chosen])).messages
        talk.messages = kept
    return talk


def to_annotate_again(event: Event) -> Turn:
    """The turn of an annotation that was taken back, to be annotated again."""
    payload = event.payload
    models, samplings = payload.get("models") or ["", ""], payload.get("sampling") or [{}, {}]
    sides = tuple(
        Side(endpoint=models[place] or "", text=payload[name], stop=StopReason.END, sampling=samplings[place] or {})
        for place, name in enumerate("ab")
        if payload.get(name) is not None
    )
    return Turn(id=new_id(), conversation=conversation_from_json(payload["conversation"]), sides=sides)


def state_of(talk: Talk) -> dict[str, Any]:
    """What of a talk is no event yet, as plain JSON; `annotated` says after which turns it stood so."""
    messages, pending = talk.messages if talk.mode is TaskMode.RED_TEAM else (), None
    if talk.pending is not None:
        conversation = conversation_to_json(talk.pending.conversation)
        pending = {
            "id": talk.pending.id,
            "conversation": conversation,
            "sides": [asdict(s) for s in talk.pending.sides],
        }
    state = {"annotated": list(talk.annotated), "messages": conversation_to_json(Conversation(messages=messages))}
    return state | {"model": talk.model, "sampling": dict(talk.sampling), "pending": pending}


def recalled(talk: Talk, state: Mapping[str, Any] | None) -> Talk:
    """The talk with what was kept of it. What was kept before the latest annotation, or its undoing, is past."""
    if state is None or list(talk.annotated) != state["annotated"]:
        return talk
    if talk.mode is TaskMode.RED_TEAM:
        talk.messages, talk.suggestion = conversation_from_json(state["messages"]).messages, ""
        talk.model, talk.sampling = state["model"], state["sampling"]
    elif state["pending"] is not None:
        waiting = state["pending"]
        sides = tuple(Side(**{**one, "stop": StopReason(one["stop"])}) for one in waiting["sides"])
        talk.pending = Turn(id=waiting["id"], conversation=conversation_from_json(waiting["conversation"]), sides=sides)
    return talk


def new_id() -> str:
    """An unguessable name."""
    return secrets.token_urlsafe(16)


class Talks:
    """Talks by presentation; of too many, the one not used for longest is let go (it comes back from the store)."""

    def __init__(self) -> None:
        self._talks: OrderedDict[str, Talk] = OrderedDict()

    def get(self, presentation_id: str) -> Talk | None:
        """The talk, if it is held."""
        talk = self._talks.get(presentation_id)
        if talk is not None:
            self._talks.move_to_end(presentation_id)
        return talk

    def keep(self, talk: Talk) -> Talk:
        """Hold a talk."""
        self._talks[talk.presentation.id] = talk
        self._talks.move_to_end(talk.presentation.id)
        while len(self._talks) > _MOST_TALKS:
            self._talks.popitem(last=False)
        return talk

    def drop(self, presentation_id: str) -> None:
        """It is over."""
        self._talks.pop(presentation_id, None)
