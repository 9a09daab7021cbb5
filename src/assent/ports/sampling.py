"""The seam towards whatever writes text and whatever scores it. No torch on this side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from assent.errors import RunError
from assent.types import Completion, Conversation, Turn

Progress = Callable[[int], None]  # told how many more items are done


def silent(_: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample: temperature 0 is greedy; `top_k` 0 and `top_p` 1 keep the whole distribution."""

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    batch_size: int = 128


class Sampler(Protocol):
    """Writes completions."""

    def sample(
        self, prompts: Sequence[Conversation], *, sampling: Sampling, seed: int, progress: Progress = silent
    ) -> list[Turn]:
        """One turn per prompt, in order; prompt i draws from `derive(seed, i)`."""
        ...


class Scorer(Protocol):
    """Scores completions: a reward model, a classifier, a judge or any function of text."""

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """One finite number per completion, higher is better."""
        ...


def check_finite(rewards: Sequence[float], completions: Sequence[Completion]) -> list[float]:
    """The rewards, or an error naming the first completion whose reward is nan or infinite."""
    for reward, completion in zip(rewards, completions, strict=True):
        if not math.isfinite(reward):
            raise RunError(
                f"the reward of a completion is {reward}",
                where=repr(completion.text[:80]),
                now="Nothing was updated with it; look at the reward model or function.",
            )
    return list(rewards)
