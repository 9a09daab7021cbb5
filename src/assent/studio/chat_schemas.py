"""What the routes of talking are sent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from assent.studio.schemas import Incoming, Key, Text, Token

Said = Annotated[Text, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S")]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]


class OpenIn(Incoming):
    """Begin a talk, or go on with the one named."""

    presentation_id: Token | None = None


class SayIn(Incoming):
    """The annotator's next message."""

    presentation_id: Token
    text: Said


class AnnotateIn(Incoming):
    """An annotation of the answers that wait; of one alone, "a" is good and "both_bad" bad."""

    key: Key
    presentation_id: Token
    turn_id: Token
    choice: Literal["a", "b", "tie", "both_bad"]
    time_taken_ms: Milliseconds = 0


class TakeBackIn(Incoming):
    """Take back the last annotation of a talk."""

    key: Key
    presentation_id: Token


class RateIn(Incoming):
    """How far a red-team talk got, 0 not at all to 10 all the way."""

    key: Key
    presentation_id: Token
    reached: Annotated[int, Field(ge=0, le=10)]
    note: Annotated[Text, StringConstraints(max_length=10_000)] = ""
    time_taken_ms: Milliseconds = 0
