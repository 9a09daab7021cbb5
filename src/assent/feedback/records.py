"""The vocabulary of annotation: projects, items, presentations, answers, events, people. Frozen, no SQL, no torch.

An item is a prompt with completions in a fixed, canonical order. A presentation shows one item to one person in a
shuffled order under a lease. An answer speaks of the completions as they were shown; the store turns it into the
canonical order before it keeps it, so that whatever reads events need not know about the shuffling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from assent.types import Completion, Conversation, Message, Provenance, Role, StopReason

CRITERIA = ("helpful", "honest", "harmless")
STRONGEST = 3  # pairwise strength is an integer in [-STRONGEST, STRONGEST]
HIGHEST_RATING = 7  # ratings are integers in [1, HIGHEST_RATING]
MOST_COMPLETIONS = 9
MOST_OVERLAP = 1000  # people who may be asked about one item


class TaskMode(StrEnum):
    """What a project asks of an annotator."""

    RANKING = "ranking"  # 2 to 9 completions into ranks, ties allowed
    PAIRWISE = "pairwise"  # two completions, strength -3..3
    RATING = "rating"  # each completion 1-7 per criterion
    GOOD_BAD = "good_bad"  # each completion good or bad, with reasons
    DEMONSTRATION = "demonstration"  # write the answer oneself
    CHAT = "chat"  # talk with one model, or compare two blind ones turn by turn
    RED_TEAM = "red_team"  # try to draw harm out of a model, rate how far it got


class PersonRole(StrEnum):
    """What somebody may do: an admin everything, an annotator answer, a viewer look."""

    ADMIN = "admin"
    ANNOTATOR = "annotator"
    VIEWER = "viewer"


class EventKind(StrEnum):
    """What happened. Events are only ever added; UNDO takes back one earlier event of the same person."""

    RANKING = "ranking"
    PAIRWISE = "pairwise"
    RATING = "rating"
    GOOD_BAD = "good_bad"
    CORRECTION = "correction"
    DEMONSTRATION = "demonstration"
    CHAT_TURN = "chat_turn"
    RED_TEAM = "red_team"
    FLAG = "flag"
    SKIP = "skip"
    UNDO = "undo"
    MODEL_PREFERENCE = "model_preference"  # a model compared two completions by the principles of a constitution


ANSWER_KINDS = frozenset(EventKind) - {EventKind.UNDO}
"""Kinds that fill the person's slot of the item. FLAG and SKIP do too, but are no labels."""

FLAGS = ("harmful", "private_data", "broken", "not_answerable", "out_of_my_depth")
SKIP_REASONS = ("unclear", "too_long", "wrong_language", "no_opinion", "other")
CHAT_CHOICES = ("a", "b", "tie", "both_bad")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One completion of an item and where it came from; `model` and the hash stay hidden from annotators."""

    text: str
    stop: StopReason = StopReason.END
    model: str = ""
    checkpoint_sha256: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)  # temperature, top_p, seed, ...

    @property
    def completion(self) -> Completion:
        """The completion alone."""
        return Completion(text=self.text, stop=self.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item to be put into a project's queue.

    `overlap` is how many people must answer it (None: the project's). `priority` orders the queue, highest first, then
    oldest first. `control_answer` is the known answer of a control item, as a payload of its mode in canonical order.
    `serves` says what the question is for: "reward_model", "policy", "random" (the control arm) or "".
    `predicted` is what a reward model thinks the candidates are worth, in logits, where it was asked; nobody sees it,
    it says where more labels are needed (`ProjectSettings.adaptive_overlap`).
    `topic` may be opted out of; `sensitive` content is blurred until asked for. `key` makes adding idempotent:
    an item with a key that the project already has is not added again.
    """

    prompt: Conversation
    candidates: tuple[Candidate, ...] = ()
    overlap: int | None = None
    priority: float = 0.0
    control_answer: Mapping[str, Any] | None = None
    serves: str = ""
    topic: str = ""
    sensitive: bool = False
    key: str = ""
    batch: str = ""  # the round or import the item came with
    predicted: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of the store."""

    id: int
    project_id: int
    new: NewItem
    created_at: float  # seconds since the epoch
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """How a project asks.

    `criteria_share` is the share of items for which the single criteria are asked as well. `control_share` and
    `repeat_share` are the shares of presentations that are control items and silent repeats of the person's own.
    """

    mode: TaskMode = TaskMode.RANKING
    criteria: tuple[str, ...] = CRITERIA
    criteria_share: float = 0.0
    overlap: int = 1
    lease_s: float = 900.0
    control_share: float = 0.0
    repeat_share: float = 0.0
    instructions: str = ""
    endpoints: tuple[str, ...] = ()  # names of model endpoints for chat and red-team modes
    cost_per_hour: float = 0.0  # what an hour of labeling costs, for the cost per useful label
    adaptive_overlap: int = 0  # the most labels an item without an overlap of its own may get where people contradict
    # each other or the reward model; 0: never more than `overlap`


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project of the store; `guideline_version` is the newest (0: none written yet)."""

    id: int
    name: str
    settings: ProjectSettings
    guideline_version: int
    created_at: float
    archived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Guideline:
    """One version of a project's guidelines, in Markdown."""

    project_id: int
    version: int
    text: str
    created_at: float
    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account. `topics_declined` are never shown to them. Password hashes never leave the store."""

    id: int
    name: str
    role: PersonRole
    active: bool = True
    topics_declined: tuple[str, ...] = ()
    created_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """One item as shown to one person: `order[slot]` is the canonical position of what stands in that slot."""

    id: str  # unguessable
    item: Item
    person_id: int
    order: tuple[int, ...]
    criteria: tuple[str, ...]  # asked for this time
    guideline_version: int
    repeat: bool  # a silent repeat of an item the person has answered before
    expires_at: float

    @property
    def shown(self) -> tuple[Candidate, ...]:
        """The candidates in the order in which they are shown."""
        return tuple(self.item.new.candidates[position] for position in self.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an annotator sends: `payload` speaks of slots as shown.

    Payloads by kind (lists run over slots as shown):
        ranking        {"ranks": [1, 2, 2], "criteria": {"helpful": [1, 2, 3]}}   1 is best, ties allowed
        pairwise       {"strength": -3..3}     negative: the first shown is better; 0: a tie; optional "criteria" alike
        rating         {"ratings": {"helpful": [1..7, ...], ...}}
        good_bad       {"good": [true, false, null], "reasons": ["..."]}
        correction     {"slot": 1, "text": "edited", "ranks": [...] optional}
        demonstration  {"text": "..."}
        chat_turn      {"conversation": [{"role", "content"}], "a": "...", "b": "..." or null,
                        "choice": "a|b|tie|both_bad"}
        red_team       {"conversation": [...], "reached": 0..10, "note": ""}
        What the server adds to the two: chat_turn {"turn": 1, "models": [name of a, name of b or null],
        "sampling": [{...}, {...} or null], "goes_on": "a", "b" or null} and red_team {"model": name,
        "sampling": {...}}. A chat_turn's a and b stand as shown; who is a is drawn for every turn. "conversation" ends
        with the message that a and b answer; `goes_on` is the answer with which the talk went on.
        flag           {"flag": "harmful", "slot": 0 or null, "note": ""}
        skip           {"reason": "unclear", "note": ""}
        model_preference  {"model": name, "probability": P(the first is better),
                        "verdicts": [{"principle": id, "forward": P or null, "backward": P or null}]}
        A model_preference is in canonical order, for the model saw both; forward: the first was shown first.
    `key` is the client's idempotency key: the same answer with it again changes nothing and returns the first event.
    """

    key: str
    presentation_id: str
    kind: EventKind
    payload: Mapping[str, Any]
    time_taken_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the append-only record. `payload` is in canonical order; `order` says how the item was shown.

    `sha256` chains: it covers this event's fields and the event before it, so that an edited, dropped or reordered
    event shows.
    """

    seq: int
    key: str
    kind: EventKind
    project_id: int
    item_id: int | None
    person_id: int
    payload: Mapping[str, Any]
    order: tuple[int, ...]
    repeat: bool
    time_taken_ms: int
    guideline_version: int
    created_at: float
    undone_seq: int | None = None  # for UNDO: the event it takes back
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredItem:
    """An item with every standing answer (not undone) to it: what exports, statistics and training read."""

    item: Item
    events: tuple[Event, ...]


def conversation_to_json(conversation: Conversation) -> list[dict[str, str]]:
    """Messages as plain objects."""
    return [{"role": str(message.role), "content": message.content} for message in conversation.messages]


def learned_to_json(conversation: Conversation) -> list[dict[str, Any]]:
    """Messages as plain objects; those of the assistant that are context only have weight 0."""
    return [
        plain | ({} if message.learned or message.role is not Role.ASSISTANT else {"weight": 0})
        for plain, message in zip(conversation_to_json(conversation), conversation.messages, strict=True)
    ]


def conversation_from_json(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """The reverse of `learned_to_json`; the role must be known (ValueError otherwise)."""
    return Conversation(
        messages=tuple(
            Message(role=Role(m["role"]), content=m["content"], learned=bool(m.get("weight", 1))) for m in messages
        )
    )


def provenance_of(event: Event, who: str) -> Provenance:
    """Where a label in training data comes from."""
    if event.kind is EventKind.MODEL_PREFERENCE:
        return Provenance(source="model", who=str(event.payload["model"]), detail=f"event {event.seq}")
    return Provenance(source="studio", who=who, detail=f"event {event.seq}")
