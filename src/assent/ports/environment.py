"""The seam towards whatever answers a policy: nothing, a user, a tool, a game. Text on both sides; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from assent.types import Completion, Conversation, Message, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What follows a turn of the policy.

    While the episode goes on, `stop` is None and `messages` are what the policy answers next. At the end `reward` is
    what the environment itself gives for the whole episode, None if it gives none. An episode that failed has `stop`
    ERROR and no reward: a failure is a value, and it is never scored as a success.
    """

    messages: tuple[Message, ...] = ()
    stop: StopReason | None = None
    reward: float | None = None

    def __post_init__(self) -> None:
        assert bool(self.messages) == (self.stop is None), "an episode goes on with messages, or it stops"
        assert self.reward is None or self.stop not in (None, StopReason.ERROR), "only an end without error is rewarded"


class Episode(Protocol):
    """One prompt and what the environment remembers of it."""

    @property
    def prompt(self) -> Conversation:
        """What the policy answers first."""

    def step(self, completion: Completion) -> StepResult:
        """What the environment does after a turn; not to be called after the end."""


class Environment(Protocol):
    """Starts episodes, as many at a time as wanted."""

    def reset(self, prompt: Conversation, *, seed: int) -> Episode:
        """A new episode from a prompt of the data; equal seeds and equal turns give equal episodes."""
