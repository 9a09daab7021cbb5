"""The simplest environment: a prompt and one answer."""

from __future__ import annotations

from dataclasses import dataclass

from assent.ports.environment import StepResult
from assent.types import Completion, Conversation


class SingleTurn:
    """Episodes of one turn; whatever scores the answer comes later."""

    prompts: tuple[Conversation, ...] = ()

    def reset(self, prompt: Conversation, *, seed: int) -> OneTurn:
        """An episode that ends after the first answer."""
        return OneTurn(prompt=prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTurn:
    """A prompt that waits for its answer."""

    prompt: Conversation

    def step(self, completion: Completion) -> StepResult:
        """The end, for the reason for which the answer ended."""
        return StepResult(stop=completion.stop)
