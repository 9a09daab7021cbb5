"""From standing answers to votes: what one answer says of each pair of an item's completions.

A vote is (first, second, p, m): p = P(first is better) as this answer has it, m = its signed margin in reward units.

    ranking      p = 1, 1/2, 0 by rank; m = 0                     a rank says which, not by how much
    rating       p = 1, 1/2, 0 by the mean rating; m = difference / 6      the whole scale from 1 to 7 is one unit
    good/bad     p = 1 for good against bad; two good ones or two bad ones say nothing of each other
    pairwise     strength s in -3..3, negative for the first. As a probability: p = 1/2 - s / 6. As a margin:
                 p = 1, 1/2, 0 and m = -s / 3; for s = 1, 2, 3 the small margins of Llama 2 (arXiv 2307.09288, table 27)
    model        p as the model has it, the mean of both orders; m = 0
    correction   edited > what was edited, and > all that does not stand above it: by the ranks in the same answer, else
                 by the person's own answer to the item, else it was chosen: edited > chosen > all others

Completions with equal texts (but for space around them) are one completion, and blank ones none: nobody can learn from
such pairs, and training refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from assent.errors import StoreError
from assent.feedback.records import HIGHEST_RATING, STRONGEST, AnsweredItem, Event, EventKind
from assent.types import Completion, Conversation, Role

Strengths = Literal["probability", "margin"]
_WHOLE = (EventKind.RANKING, EventKind.PAIRWISE, EventKind.RATING, EventKind.GOOD_BAD, EventKind.MODEL_PREFERENCE)

Worth = dict[int, float]
"""A number for each position that was compared, larger is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One answer's word on two completions of a table: `first` and `second` are places in it, `first` < `second`."""

    first: int
    second: int
    probability: float
    margin: float
    event: Event


@dataclass(slots=True)
class Table:
    """The different completions that an item's answers speak of: the item's own, then what people made of them."""

    completions: list[Completion] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def place(self, completion: Completion) -> int | None:
        """Where the completion stands (it is added if it is new); None if it is blank."""
        told = completion.text.strip()
        if not told or not is_text(told):
            return None
        if told not in self._places:
            self._places[told] = len(self.completions)
            self.completions.append(completion)
        return self._places[told]


def is_text(text: str) -> bool:
    """Whether the text can be written as UTF-8 (no half of a surrogate pair)."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def is_prompt(conversation: Conversation) -> bool:
    """Whether the assistant can answer it: somebody has said something, and the assistant has not the last word."""
    messages = conversation.messages
    return (
        bool(messages)
        and messages[-1].role is not Role.ASSISTANT
        and any(message.content.strip() for message in messages)
        and all(is_text(message.content) for message in messages)
    )


def table_of(answered: AnsweredItem) -> tuple[Table, dict[int, int]]:
    """The item's completions, and where each canonical position stands among them."""
    table, places = Table(), {}
    for position, candidate in enumerate(answered.item.new.candidates):
        place = table.place(candidate.completion)
        if place is not None:
            places[position] = place
    return table, places


def votes_of(
    answered: AnsweredItem, events: Sequence[Event], *, strengths: Strengths = "probability", criterion: str = ""
) -> tuple[Table, list[Vote]]:
    """All votes of `events` on the item's completions. `criterion` "" is the overall one.

    Raises StoreError for an event whose payload is none of its kind.
    """
    table, places = table_of(answered)
    count = len(answered.item.new.candidates)
    worths = {event.seq: worth_of(event, count, criterion=criterion) for event in events}
    own = {(event.person_id, event.repeat): worths[event.seq] for event in events if event.kind in _WHOLE}
    votes: list[Vote] = []
    for event in events:
        if event.kind is EventKind.CORRECTION:
            whole = own.get((event.person_id, event.repeat))
            votes += _votes_of_correction(event, whole, table, places, worths[event.seq])
        else:
            votes += _votes_of_event(event, worths[event.seq], places, strengths)
    return table, votes


def worth_of(event: Event, count: int, *, criterion: str = "") -> Worth:
    """How good the answer says each position is, as far as it says so; `count` is how many candidates there are.

    Pairwise strengths and corrections become worths too, so that they can be ranked. Raises StoreError.
    """
    worth = worth_of_payload(event.kind, event.payload, count, criterion=criterion)
    if worth is None:
        raise unreadable(event)
    return worth


def worth_of_payload(kind: EventKind, payload: Mapping[str, Any], count: int, *, criterion: str = "") -> Worth | None:
    """`worth_of` of a payload alone; None for one that is none of its kind."""
    try:
        return _worth(kind, payload, count, criterion)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def kind_of_payload(payload: Mapping[str, Any]) -> EventKind | None:
    """The comparing kind that a payload has the form of."""
    fields = {"ranks": EventKind.RANKING, "strength": EventKind.PAIRWISE, "ratings": EventKind.RATING}
    return next((kind for name, kind in (fields | {"good": EventKind.GOOD_BAD}).items() if name in payload), None)


def unreadable(event: Event) -> StoreError:
    """The error for a payload that is none of its kind."""
    what, now = f"the payload is no {event.kind.value}", "Was it written by a newer version?"
    return StoreError(what, where=f"event {event.seq}", now=now)


def _worth(kind: EventKind, payload: Mapping[str, Any], count: int, criterion: str) -> Worth:
    if kind is EventKind.RANKING:
        ranks = payload.get("criteria", {}).get(criterion, []) if criterion else payload["ranks"]
        return {place: -float(rank) for place, rank in enumerate(ranks) if rank is not None}
    if kind is EventKind.PAIRWISE:
        strength = payload.get("criteria", {}).get(criterion) if criterion else payload["strength"]
        return {} if strength is None else {0: -float(strength), 1: 0.0}
    if kind is EventKind.RATING:
        return _mean_ratings(payload["ratings"], criterion)
    if criterion:
        return {}
    if kind is EventKind.MODEL_PREFERENCE:
        return {0: float(payload["probability"]), 1: 1.0 - payload["probability"]}
    if kind is EventKind.GOOD_BAD:
        return {place: float(good) for place, good in enumerate(payload["good"]) if good is not None}
    if kind is EventKind.CORRECTION:
        if not isinstance(payload["text"], str):
            raise TypeError
        # without ranks it speaks of what was edited alone: not everybody who mends an answer finds it the best
        ranks, slot = payload.get("ranks"), payload["slot"]
        if ranks:
            return {place: -float(rank) for place, rank in enumerate(ranks)}
        return {slot: dict.fromkeys(range(count), 0.0)[slot]}
    return {}


def _mean_ratings(ratings: Mapping[str, Sequence[float | None]], criterion: str) -> Worth:
    told = [ratings[criterion]] if criterion in ratings else [] if criterion else list(ratings.values())
    by_place: dict[int, list[float]] = {}
    for column in told:
        for place, rating in enumerate(column):
            if rating is not None:
                by_place.setdefault(place, []).append(float(rating))
    # a completion rated on fewer criteria than another cannot be compared with it
    most = max(map(len, by_place.values()), default=0)
    return {place: sum(given) / len(given) for place, given in by_place.items() if len(given) == most}


def _votes_of_event(event: Event, worth: Worth, places: Mapping[int, int], strengths: Strengths) -> Iterator[Vote]:
    for one, other in combinations((position for position in worth if position in places), 2):
        if event.kind is not EventKind.GOOD_BAD or worth[one] != worth[other]:
            opinion = _opinion(event.kind, worth[one] - worth[other], strengths)
            yield from _vote(event, places[one], places[other], opinion)


def _votes_of_correction(
    event: Event, own: Worth | None, table: Table, places: Mapping[int, int], worth: Worth
) -> Iterator[Vote]:
    """What was edited stands where the ranks put it, else the person's own answer, else nowhere."""
    slot, ranked = event.payload["slot"], bool(event.payload.get("ranks"))
    if not ranked and own is not None and slot in own:
        worth = own
    else:
        for one, other in combinations((position for position in worth if position in places), 2):
            if ranked or worth[one] != worth[other]:
                yield from _vote(event, places[one], places[other], _opinion(event.kind, worth[one] - worth[other]))
    edited = table.place(Completion(text=str(event.payload["text"])))
    if edited is not None:
        for position, place in places.items():
            if position in worth and worth[position] <= worth[slot]:
                yield from _vote(event, place, edited, (0.0, 0.0))


def _vote(event: Event, one: int, other: int, opinion: tuple[float, float]) -> Iterator[Vote]:
    """The vote with its places in order; none of a completion on itself."""
    probability, margin = opinion
    if one < other:
        yield Vote(first=one, second=other, probability=probability, margin=margin, event=event)
    elif other < one:
        yield Vote(first=other, second=one, probability=1.0 - probability, margin=0.0 - margin, event=event)


def _opinion(kind: EventKind, difference: float, strengths: Strengths = "margin") -> tuple[float, float]:
    """(probability that the one is better, signed margin)."""
    side = 1.0 if difference > 0 else 0.0 if difference < 0 else 0.5
    if kind is EventKind.PAIRWISE:
        share = difference / STRONGEST
        return (0.5 + share / 2, 0.0) if strengths == "probability" else (side, share)
    if kind is EventKind.MODEL_PREFERENCE:
        return 0.5 + difference / 2, 0.0
    if kind is EventKind.RATING and strengths == "margin":
        return side, difference / (HIGHEST_RATING - 1)
    return side, 0.0
