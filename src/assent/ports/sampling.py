"""The seam towards whatever writes text and whatever scores it: tokens in, tokens out. No torch on this side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from assent.errors import DataError, RunError
from assent.seeds import derive
from assent.types import Completion, Conversation, Message, Turn

Progress = Callable[[int], None]  # called with how many more items are done; what it raises ends the work


def silent(_: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to sample: temperature 0 is greedy; `top_k` 0 and `top_p` 1 keep the whole distribution.

    `max_tokens` None writes until the model is full. Writing ends before the first of the `stop` sequences.
    `top_logprobs` asks for log-probabilities under the model itself: of the token and of that many likeliest ones.
    """

    max_tokens: int | None = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A turn to be written: the key under which it comes back, its prompt's tokens, and the seed that it draws from.

    Requests that share the very same `prompt_ids` may be read once.
    """

    key: int
    prompt_ids: tuple[int, ...]
    seed: int


class PromptTooLong(DataError):
    """A prompt that leaves no room in the model for what is to be written."""


class Sampler(Protocol):
    """Writes completions. How many it writes side by side, and what it keeps of them, is its own business."""

    @property
    def room(self) -> int:
        """The most tokens of a prompt and its completion."""

    def encode(self, prompt: Conversation) -> tuple[int, ...]:
        """The tokens of a prompt; text becomes tokens here and in `encode_reply`, and nowhere else."""

    def encode_reply(self, prompt: Conversation, answer: Message, reply: Sequence[Message]) -> tuple[int, ...]:
        """The tokens of messages that follow the answer to a prompt, up to where the assistant begins again.

        They stand behind the answer's tokens as sampled, the end of its turn included.
        """

    def stream(
        self, arrivals: Iterable[Sequence[TurnRequest]], *, sampling: SamplingParams, progress: Progress = silent
    ) -> Iterator[tuple[int, Turn]]:
        """Finished turns as they come, with their keys.

        Before every token `arrivals` is asked for requests that have come up since. It gives none if there are none
        now, and ends when no more will come; while nothing is being written, it may wait. `progress` is called after
        every token, with 0 too. Raises `PromptTooLong` for a request before any of those that came with it is written.
        """

    def sample(
        self, prompts: Sequence[Conversation], *, sampling: SamplingParams, seed: int, progress: Progress = silent,
        n: int = 1,
    ) -> list[Turn]:  # fmt: skip
        """All turns in the order of their places; the one at place p draws from `derive(seed, p)`."""
        ids = [self.encode(prompt) for prompt in prompts]
        requests = [
            TurnRequest(key=place, prompt_ids=ids[place // n], seed=derive(seed, place))
            for place in range(len(prompts) * n)
        ]
        turns = dict(self.stream([requests], sampling=sampling, progress=progress))
        return [turns[place] for place in range(len(turns))]


class Scorer(Protocol):
    """Scores completions: a reward model, a classifier, a judge or any function of text."""

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """One finite number per completion, higher is better."""


@runtime_checkable
class WatchedScorer(Scorer, Protocol):
    """A scorer that works long enough to be watched, and stopped."""

    def watched(self, progress: Progress) -> Scorer:
        """The same scorer; it calls `progress` while it scores."""


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
