"""What the rows of a file hold before conversion: the vocabulary, and two unfinished forms of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from assent.data.rows import Fields
from assent.errors import DataError
from assent.types import (
    Comparison,
    Completion,
    Conversation,
    Demonstration,
    Provenance,
    Ranking,
    Rating,
    RewardedDialogue,
)


class Kind(StrEnum):
    """What a file holds."""

    DEMONSTRATIONS = "demonstrations"
    COMPARISONS = "comparisons"
    RANKINGS = "rankings"
    RATINGS = "ratings"
    DIALOGUES = "dialogues with rewards"
    STEPS = "step labels"
    PROMPTS = "prompts"
    TEXTS = "texts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """K completions of one prompt with scores, larger is better."""

    prompt: Conversation
    completions: tuple[Completion, ...]
    scores: tuple[float, ...]
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A completion with a label whose meaning is still open; a text labelled on its own has an empty prompt."""

    prompt: Conversation
    completion: Completion
    label: str
    criterion: str = "overall"
    provenance: Provenance = field(default_factory=Provenance)


Example = Demonstration | RewardedDialogue | Comparison | Ranking | Rating | Scored | Labelled | Conversation | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of rows. `matches` looks only at names and types; `read` raises DataError.

    `read_prompts`, if given, reads rows for their prompt alone (they may have no answer), `read_dialogues` reads them
    with their rewards.
    """

    name: str
    kind: Kind
    matches: Callable[[Fields], bool]
    read: Callable[[Fields], list[Example]]
    read_prompts: Callable[[Fields], list[Example]] | None = None
    read_dialogues: Callable[[Fields], list[Example]] | None = None

    def reader(self, wanted: Kind) -> Callable[[Fields], list[Example]]:
        """What reads a row where such examples are wanted."""
        own = {Kind.PROMPTS: self.read_prompts, Kind.DIALOGUES: self.read_dialogues}
        return own.get(wanted) or self.read


def has(*names: str) -> Callable[[Fields], bool]:
    """Matches rows that have all of these fields."""
    return lambda row: all(name in row for name in names)


def has_any(*names: str) -> Callable[[Fields], bool]:
    """Matches rows that have one of these fields."""
    return lambda row: any(name in row for name in names)


def prompt_key(prompt: Conversation) -> str:
    """A name for a prompt: equal prompts have equal names."""
    text = "\x00".join(f"{message.role.value}\x01{message.content}" for message in prompt.messages)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def group_of(fields: Fields, prompt: Conversation) -> str:
    """The label task of a row: its field `group` if that is a name or a number, else a name for the prompt."""
    group = fields.get("group")
    named = isinstance(group, str | int) and not isinstance(group, bool) and str(group).strip()
    return str(group).strip() if named else prompt_key(prompt)


def comparison_of(
    prompt: Conversation, chosen: str, rejected: str, *, probability: float = 1.0, margin: float = 0.0, group: str = ""
) -> Comparison:
    """A comparison ordered so that `probability` is at least one half; identical answers raise DataError.

    Without a `group`, the prompt is the group.
    """
    if chosen.strip() == rejected.strip():
        raise DataError("the two completions are identical")
    if probability < 0.5:
        chosen, rejected, probability = rejected, chosen, 1.0 - probability
    better, worse, group = Completion(text=chosen), Completion(text=rejected), group or prompt_key(prompt)
    return Comparison(prompt=prompt, chosen=better, rejected=worse, probability=probability, margin=margin, group=group)
