"""Episodes played to their end, in text: for evaluations and for trying an environment out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from assent.ports.environment import Environment
from assent.types import Completion, Conversation, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """An episode: all that was said, why it ended, and the environment's own reward, if it gave one."""

    conversation: Conversation
    stop: StopReason
    reward: float | None


def play(
    environment: Environment,
    prompt: Conversation,
    answer: Callable[[Conversation], Completion],
    *,
    seed: int,
    most_turns: int = 16,
) -> Played:
    """One episode. A turn that is not finished ends it for the same reason, and too many turns end it with TURNS."""
    episode = environment.reset(prompt, seed=seed)
    conversation = episode.prompt
    for _ in range(most_turns):
        completion = answer(conversation)
        conversation = conversation.then(completion.text)
        result = episode.step(completion)
        if result.stop is not None or completion.stop is not StopReason.END:
            return Played(conversation=conversation, stop=result.stop or completion.stop, reward=result.reward)
        conversation = replace(conversation, messages=conversation.messages + result.messages)
    return Played(conversation=conversation, stop=StopReason.TURNS, reward=None)
