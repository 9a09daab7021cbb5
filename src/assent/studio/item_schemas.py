"""The shape of an item as it is uploaded, one a line."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from assent.feedback.exchange.imported_items import ImportedItem, answer_of_model
from assent.feedback.records import (
    MOST_COMPLETIONS,
    Candidate,
    NewItem,
)
from assent.studio.schemas import Incoming, Number, Share, Text, Word
from assent.types import Conversation, Message, Role, StopReason


class MessageIn(Incoming):
    """One message of a prompt."""

    role: Role
    content: Text


class CandidateIn(Incoming):
    """One completion and where it came from."""

    text: Text
    stop: StopReason = StopReason.END
    model: Word = ""
    checkpoint_sha256: Word = ""
    sampling: Annotated[dict[str, Any], Field(max_length=50, default_factory=dict)]


class VerdictIn(Incoming):
    """What a model said by one principle, in both orders."""

    principle: Word
    forward: Share | None = None
    backward: Share | None = None


class ModelPreferenceIn(Incoming):
    """P(the first of two completions is better) by a model, and what that is the mean of."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=60, strip_whitespace=True)]
    probability: Share
    verdicts: Annotated[list[VerdictIn], Field(max_length=100, default_factory=list)]


class ItemIn(Incoming):
    """One line of an upload. A prompt may be plain text, and so may a candidate."""

    prompt: Text | Annotated[list[MessageIn], Field(min_length=1, max_length=1000)]
    candidates: Annotated[list[CandidateIn | Text], Field(max_length=MOST_COMPLETIONS, default_factory=list)]
    overlap: Annotated[int, Field(ge=1, le=100)] | None = None
    priority: Number = 0.0
    control_answer: dict[str, Any] | None = None
    serves: Word = ""
    topic: Word = ""
    sensitive: bool = False
    key: Word = ""
    batch: Word = ""
    predicted: Annotated[list[Number], Field(max_length=MOST_COMPLETIONS)] | None = None
    model_preference: ModelPreferenceIn | None = None

    def item(self) -> NewItem:
        """The same in the store's words."""
        if isinstance(self.prompt, str):
            prompt = Conversation.of_user(self.prompt)
        else:
            prompt = Conversation(messages=tuple(Message(role=m.role, content=m.content) for m in self.prompt))
        candidates = tuple(
            Candidate(text=given) if isinstance(given, str) else Candidate(**given.model_dump())
            for given in self.candidates
        )
        plain = self.model_dump(exclude={"prompt", "candidates", "predicted", "model_preference"})
        predicted = None if self.predicted is None else tuple(self.predicted)
        return NewItem(prompt=prompt, candidates=candidates, predicted=predicted, **plain)

    def imported(self) -> ImportedItem:
        """The item with what a model preferred, if that came along."""
        answers = () if self.model_preference is None else (answer_of_model(self.model_preference.model_dump()),)
        return ImportedItem(item=self.item(), answers=answers)
