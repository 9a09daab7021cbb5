"""How training data is made of answers: whose are heard, how several become one, and where each came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assent.errors import DataError
from assent.feedback.records import AnsweredItem, Event, provenance_of
from assent.feedback.votes import Strengths
from assent.types import Provenance

Consensus = Literal["soft", "votes", "majority"]
Labels = Literal["probability", "margin", "binary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """How training data is made of answers.

    `labels` says what becomes of strengths and doubt: probabilities, margins (of strengths; doubt stays a probability),
    or plain 0/1 pairs without ties. `weights` are per person id, 1 where none is given; a person of weight 0 is not
    heard. `criterion` takes the single criterion in place of the overall label.
    """

    consensus: Consensus = "soft"
    labels: Labels = "probability"
    weights: Mapping[int, float] | None = None
    criterion: str = ""
    control_items: bool = False
    repeats: bool = False

    def __post_init__(self) -> None:
        for person, weight in (self.weights or {}).items():
            if not (math.isfinite(weight) and weight >= 0):
                raise DataError(f"the weight of person {person} is {weight}", now="Weights are finite and at least 0.")

    def included_events(self, answered: AnsweredItem) -> list[Event]:
        """The answers that training may learn from."""
        if answered.item.new.control_answer is not None and not self.control_items:
            return []
        events = (event for event in answered.events if self.repeats or not event.repeat)
        return [event for event in events if self.weight(event.person_id) > 0]

    def weight(self, person_id: int) -> float:
        """How much the person counts."""
        return self.weights.get(person_id, 1.0) if self.weights else 1.0

    @property
    def strengths(self) -> Strengths:
        """What a pairwise strength is turned into."""
        return "probability" if self.labels == "probability" else "margin"


def mean_of(weighed: Sequence[tuple[float, float]]) -> float:
    """The mean of (value, weight) pairs; the weights are above 0."""
    return math.fsum(value * weight for value, weight in weighed) / math.fsum(weight for _, weight in weighed)


def provenance_of_all(events: Sequence[Event]) -> Provenance:
    """Who said it in which events: people by number, for names are theirs."""
    if len(events) == 1:
        return provenance_of(events[0], f"person {events[0].person_id}")
    people = ", ".join(map(str, dict.fromkeys(event.person_id for event in events)))
    numbers = ", ".join(str(event.seq) for event in events)
    return Provenance(source="studio", who=f"people {people}", detail=f"events {numbers}")
