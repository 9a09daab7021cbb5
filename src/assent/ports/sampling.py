"""The seam towards whatever writes text and whatever scores it. No torch on this side."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from assent.errors import DataError, RunError
from assent.types import Completion, Conversation, StopReason, Turn

Progress = Callable[[int], None]  # told how many more items are done


def silent(_: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample: temperature 0 is greedy; `top_k` 0 and `top_p` 1 keep the whole distribution.

    With `states`, a sampler that can also tells the hidden states it drew from (see `Turn`).
    """

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    batch_size: int = 128
    states: bool = False


class Sampler(Protocol):
    """Writes completions."""

    def sample(
        self, prompts: Sequence[Conversation], *, sampling: Sampling, seed: int, progress: Progress = silent
    ) -> list[Turn]:
        """One turn per prompt, in order; prompt i draws from `derive(seed, i)`."""
        ...


class PromptTooLong(DataError):
    """A prompt that leaves no room in the model for what is to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One completion asked of a served model: after a conversation, or going on from plain text.

    `max_tokens` None writes until the model is full. Writing ends before the first of `stops`. `likeliest` is how many
    of the likeliest tokens are told for every place; choice i of a request has the seed `derive(seed, i)`.
    """

    prompt: Conversation | str
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_sequences: tuple[str, ...] = ()
    top_logprobs: int = 0

    @property
    def size(self) -> int:
        """Characters of the prompt."""
        if isinstance(self.prompt, str):
            return len(self.prompt)
        return sum(len(message.content) for message in self.prompt.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was asked as tokens; `max_tokens` is settled."""

    asked: GenerationRequest
    prompt_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token and its natural log-probability under the model itself: temperature 1, nothing cut off."""

    id: int
    text: str
    utf8: bytes
    logp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledToken:
    """A token that was written and the likeliest ones in its place, likeliest first."""

    chosen: TokenLogprob
    top_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChunk:
    """What one step added to a completion; `stop` is None while more is to come.

    Text that may still become part of a character or of a stop sequence is held back, and its tokens with it. The
    texts of all pieces are the completion; end tokens are not among `tokens`.
    """

    text: str = ""
    tokens: tuple[SampledToken, ...] = ()
    stop: StopReason | None = None


class StepSampler(Protocol):
    """Writes many completions side by side, a token of each per step.

    `prepare` runs on a thread of its own, one prompt at a time; everything else on the thread of the model. Any verb
    that is given completions may raise because of one of them; the others can go on.
    """

    def prepare(self, asked: GenerationRequest) -> Prepared:
        """Count and check before anything is written. Raises DataError, `PromptTooLong` among them."""
        ...

    def begin(self, completions: Mapping[int, Prepared]) -> None:
        """Let these completions, by keys of the caller's choice, take part from the next step on."""
        ...

    def step(self, keys: Collection[int]) -> None:
        """One token more for these completions; if it raises, all stand where they stood. MemoryError if it is full."""
        ...

    def take(self, key: int) -> StreamChunk:
        """What the last step added to a completion; with a `stop` the completion is over and forgotten."""
        ...

    def drop(self, keys: Collection[int]) -> None:
        """Forget completions that nobody wants any more; unknown keys are nothing."""
        ...

    def check(self) -> None:
        """Raises if the model cannot write at all, whatever it is asked."""
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
