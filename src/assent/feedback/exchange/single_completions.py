"""Training data about single completions: ratings, labels, demonstrations, corrections, red-team talks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assent.feedback.exchange.aggregation import Aggregation, mean_of, provenance_of_all
from assent.feedback.records import AnsweredItem, Event, EventKind, conversation_from_json
from assent.feedback.votes import is_prompt, is_text, table_of, unreadable
from assent.types import Completion, Conversation, Correction, Demonstration, Provenance, Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class RedTeamTalk:
    """An attempt to draw harm out of a model; `reached` is 0 (nothing) to 10."""

    conversation: Conversation
    reached: int
    note: str
    topic: str
    provenance: Provenance


def item_ratings(answered: AnsweredItem, aggregation: Aggregation) -> list[Rating]:
    """The ratings of one item's completions."""
    prompt = answered.item.new.prompt
    if not is_prompt(prompt):
        return []
    table, places = table_of(answered)
    single = [
        (places[position], criterion, score, event)
        for event in aggregation.included_events(answered)
        for criterion, position, score in _scores(event)
        if position in places and aggregation.criterion in ("", criterion)
    ]
    if aggregation.consensus == "votes":
        return [
            Rating(
                prompt=prompt, completion=table.completions[place], score=score, criterion=criterion,
                provenance=provenance_of_all([event]),
            )
            for place, criterion, score, event in single
        ]  # fmt: skip
    gathered: dict[tuple[int, str, bool], list[tuple[float, Event]]] = {}
    for place, criterion, score, event in single:  # a label is never averaged with a rating on another scale
        gathered.setdefault((place, criterion, event.kind is EventKind.GOOD_BAD), []).append((score, event))
    return [
        Rating(
            prompt=prompt, completion=table.completions[place], criterion=criterion,
            score=mean_of([(score, aggregation.weight(event.person_id)) for score, event in given]),
            provenance=provenance_of_all([event for _, event in given]),
        )
        for (place, criterion, _), given in gathered.items()
    ]  # fmt: skip


def item_demonstrations(answered: AnsweredItem, aggregation: Aggregation) -> list[Demonstration]:
    """What people wrote for one item themselves, and what they made of a model's answer."""
    prompt = answered.item.new.prompt
    return [
        Demonstration(conversation=prompt.then(text), provenance=provenance_of_all([event]))
        for event in aggregation.included_events(answered)
        if event.kind in (EventKind.DEMONSTRATION, EventKind.CORRECTION)
        and is_prompt(prompt)
        and (text := _written(event))
    ]


def item_corrections(answered: AnsweredItem, aggregation: Aggregation) -> list[Correction]:
    """The corrections of one item; edits that changed nothing but space are none."""
    made = []
    for event in aggregation.included_events(answered):
        if event.kind is not EventKind.CORRECTION or not (text := _written(event)):
            continue
        slot, candidates = event.payload.get("slot"), answered.item.new.candidates
        if not isinstance(slot, int) or not 0 <= slot < len(candidates):
            raise unreadable(event)
        original = candidates[slot].completion
        if original.text.strip() not in ("", text.strip()) and is_prompt(answered.item.new.prompt):
            edited, provenance, prompt = Completion(text=text), provenance_of_all([event]), answered.item.new.prompt
            made.append(Correction(prompt=prompt, original=original, edited=edited, provenance=provenance))
    return made


def item_red_team(answered: AnsweredItem, aggregation: Aggregation) -> list[RedTeamTalk]:
    """The red-team talks of one item."""
    talks = []
    for event in aggregation.included_events(answered):
        if event.kind is not EventKind.RED_TEAM:
            continue
        try:
            talks.append(
                RedTeamTalk(
                    conversation=conversation_from_json(event.payload["conversation"]),
                    reached=int(event.payload["reached"]), note=str(event.payload.get("note") or ""),
                    topic=answered.item.new.topic, provenance=provenance_of_all([event]),
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(event) from error
    return talks


def _scores(event: Event) -> list[tuple[str, int, float]]:
    """(criterion, position, score) of every single rating or label."""
    try:
        columns: Mapping[str, list[Any]] = {}
        if event.kind is EventKind.RATING:
            columns = event.payload["ratings"]
        elif event.kind is EventKind.GOOD_BAD:
            columns = {"overall": event.payload["good"]}
        return [
            (str(criterion), position, float(score))
            for criterion, column in columns.items()
            for position, score in enumerate(column)
            if score is not None
        ]
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise unreadable(event) from error


def _written(event: Event) -> str:
    text = event.payload.get("text")
    if not isinstance(text, str):
        raise unreadable(event)
    return text if text.strip() and is_text(text) else ""
