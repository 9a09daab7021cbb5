"""The vocabulary: what crosses a folder border. Frozen, slotted, keyword-only; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class Role(StrEnum):
    """Who wrote a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class StopReason(StrEnum):
    """Why a completion, or an episode, ended. Only END is a finished one; a failed one is never scored as a success."""

    END = "end"  # the model wrote its end-of-text (or end-of-turn) token; the environment came to its end
    LENGTH = "length"  # cut at the token limit
    TURNS = "turns"  # an episode had as many turns as it may have
    ERROR = "error"  # the episode failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a label or a text comes from: annotators, a model, a simulation, a file."""

    source: str = "file"
    who: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation.

    `content` is the whole message as plain text: a thought before the answer as `<think>...</think>`, tool calls after
    it as JSON. `tool_calls` repeats that JSON for chat templates with their own form of calls; they also use `name` and
    `tool_call_id`. An assistant's message that is not `learned` is only context.
    """

    role: Role
    content: str
    tool_calls: str = ""
    tool_call_id: str = ""
    name: str = ""
    learned: bool = True

    @property
    def spoken(self) -> str:
        """The content without the JSON of its tool calls."""
        return self.content.removesuffix(self.tool_calls).rstrip() if self.tool_calls else self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in order. A prompt is a conversation that does not end with the assistant.

    `tools` describes the available tools as JSON text; empty text means none. `columns` of a prompt holds the columns
    of its row of the data, for reward functions that ask for them (for example a right answer). Equality ignores it.
    """

    messages: tuple[Message, ...]
    tools: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of_user(text: str) -> Conversation:
        """A prompt of one user message."""
        return Conversation(messages=(Message(role=Role.USER, content=text),))

    def then(self, text: str) -> Conversation:
        """This conversation with another assistant message."""
        return replace(self, messages=(*self.messages, Message(role=Role.ASSISTANT, content=text)))

    def before(self, place: int) -> Conversation:
        """The messages before the one at `place`, with the same tools."""
        return replace(self, messages=self.messages[:place])

    @property
    def last_user_text(self) -> str:
        """The last user message, or empty text if there is none."""
        return next((m.content for m in reversed(self.messages) if m.role is Role.USER), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the assistant said after a prompt; `reward` is what an environment gave for it, if it gave something."""

    text: str
    stop: StopReason = StopReason.END
    reward: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One sampled completion with the tokens and the log-probabilities it was sampled with.

    `logps` are natural logarithms under the sampling distribution (temperature and truncation included), one per token
    of `completion_ids`. The end-of-text token is part of the completion. `states` (tokens, hidden size) are the float32
    hidden states that the tokens were drawn from, if the sampler keeps them and has the learner's own. `version` is
    that of the weights it was sampled with.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logps: tuple[float, ...]
    completion: Completion
    version: int = 0
    states: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One episode: what was sampled, the reward that is maximised (None until scored) and, under a budget, its cost.

    The tokens of each turn's prompt begin with those of the turn before. `prompt` is what the last turn answered, with
    all turns before it; `completion` is the text of the last turn, why the episode ended, and the environment's own
    reward. `problem` says why an episode failed; it may then have no turn at all.
    """

    prompt: Conversation
    turns: tuple[Turn, ...]
    completion: Completion
    reward: float | None = None
    cost: float | None = None
    problem: str = ""

    @property
    def start(self) -> Conversation:
        """What the first turn answered."""
        spoken = [place for place, message in enumerate(self.prompt.messages) if message.role is Role.ASSISTANT]
        own = len(self.turns) - 1
        return self.prompt.before(spoken[-own]) if own > 0 else self.prompt

    @property
    def failed(self) -> bool:
        """Whether there is nothing to learn from it."""
        return self.completion.stop is StopReason.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Several trajectories of one prompt."""

    prompt: Conversation
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A conversation with assistant messages to imitate."""

    conversation: Conversation
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardedDialogue:
    """A logged conversation that ends with the assistant, and the reward of each of its messages that are learned."""

    conversation: Conversation
    rewards: tuple[float, ...]
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def prompt(self) -> Conversation:
        """What stands before the last message."""
        return self.conversation.before(len(self.conversation.messages) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two completions of one prompt.

    `probability` is the (soft) label P(chosen is better), in [0, 1]; 0.5 is a tie. `margin` >= 0 says by how much in
    reward units. `group` names the label task of the pair, so that the pairs of one prompt stay together.
    """

    prompt: Conversation
    chosen: Completion
    rejected: Completion
    probability: float = 1.0
    margin: float = 0.0
    group: str = ""
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """K completions of one prompt with ranks: 1 is best, equal ranks are ties."""

    prompt: Conversation
    completions: tuple[Completion, ...]
    ranks: tuple[int, ...]
    group: str = ""
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A score of one completion; good/bad labels are 1.0 and 0.0."""

    prompt: Conversation
    completion: Completion
    score: float
    criterion: str = "overall"
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A completion and an annotator's edit of it: edited > original."""

    prompt: Conversation
    original: Completion
    edited: Completion
    provenance: Provenance = field(default_factory=Provenance)
