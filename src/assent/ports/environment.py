"""The seam towards whatever answers a policy: nothing, a user, a tool, a game. Text on both sides; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from assent.ports.sampling import Sampler
from assent.types import Completion, Conversation, Message, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What follows a turn of the policy.

    While the episode goes on, `stop` is None and `messages` are what the policy answers next. At the end `reward` is
    what the environment itself gives for the whole episode, None if it gives none. An episode that failed has `stop`
    ERROR, no reward, and in `problem` what went wrong: a failure is a value, and it is never scored as a success.
    """

    messages: tuple[Message, ...] = ()
    stop: StopReason | None = None
    reward: float | None = None
    problem: str = ""

    def __post_init__(self) -> None:
        assert bool(self.messages) == (self.stop is None), "an episode goes on with messages, or it stops"
        assert self.reward is None or self.stop not in (None, StopReason.ERROR), "only an end without error is rewarded"


class Episode(Protocol):
    """One prompt and what the environment remembers of it. Whatever it raises fails this episode alone."""

    @property
    def prompt(self) -> Conversation:
        """What the policy answers first."""

    def step(self, completion: Completion) -> StepResult:
        """What the environment does after a turn; not to be called after the end.

        A turn that was cut (`completion.stop` is LENGTH) is the last one, whatever is given back.
        """


@runtime_checkable
class Environment(Protocol):
    """Starts episodes, as many at a time as wanted."""

    @property
    def prompts(self) -> Sequence[Conversation]:
        """Prompts of its own, for when no data is given; there may be none."""

    def reset(self, prompt: Conversation, *, seed: int) -> Episode:
        """A new episode from a prompt; equal seeds and equal turns give equal episodes."""


@runtime_checkable
class AdaptiveEnvironment(Environment, Protocol):
    """An environment that changes with the policy: an opponent that keeps up, tasks that become harder.

    What it has learned of the policy is part of every checkpoint.
    """

    def meet(self, sampler: Sampler, *, iteration: int, seed: int) -> None:
        """See the policy as it is before the rollout of an iteration."""

    def save(self) -> str:
        """What `meet` changed, as text."""

    def load(self, state: str) -> None:
        """The reverse of `save`."""
