"""The seam towards a model that is served: requests come and go, and every step adds a token to each of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from assent.ports.sampling import SamplingParams
from assent.types import Conversation, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """`n` completions of a conversation, or of plain text to be continued; choice i draws from `derive(seed, i)`."""

    prompt: Conversation | str
    sampling: SamplingParams
    seed: int = 0
    n: int = 1

    @property
    def characters(self) -> int:
        """Characters of the prompt."""
        if isinstance(self.prompt, str):
            return len(self.prompt)
        return sum(len(message.content) for message in self.prompt.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedRequest:
    """A request with its prompt as tokens; `request.sampling.max_tokens` is settled."""

    request: GenerationRequest
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token and its natural log-probability under the model itself: temperature 1, nothing cut off."""

    id: int
    text: str
    utf8: bytes
    logp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledToken:
    """A sampled token and the likeliest ones in its place, likeliest first."""

    chosen: TokenLogprob
    top_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChunk:
    """What one step added to a completion; `stop` is None while more is to come.

    Text that may still become part of a character or of a stop sequence is held back, and its tokens with it. The
    texts of all chunks are the completion. `tokens` are there if log-probabilities were asked for, but no end token.
    """

    text: str = ""
    tokens: tuple[SampledToken, ...] = ()
    stop: StopReason | None = None


class GenerationEngine(Protocol):
    """Writes many completions side by side, a token of each per step.

    `tokenize` runs on a thread of its own, one prompt at a time; everything else on the thread of the model. Any method
    that is given completions may raise because of one of them; the others can go on.
    """

    def tokenize(self, request: GenerationRequest) -> TokenizedRequest:
        """Count and check before anything is written. Raises DataError, `PromptTooLong` among them."""

    def add(self, request: TokenizedRequest, keys: Sequence[int]) -> None:
        """Let the request's choices, under keys of the caller's, take part from the next step on."""

    def step(self, keys: Collection[int]) -> None:
        """One token more for these completions; if it raises, all stand where they stood. MemoryError if it is full."""

    def chunk(self, key: int) -> StreamChunk:
        """What the last step added to a completion; with a `stop` the completion is over and forgotten."""

    def abort(self, keys: Collection[int]) -> None:
        """Forget completions that nobody wants any more; unknown keys are nothing."""

    def check_health(self) -> None:
        """Raises if the model cannot write at all, whatever it is asked."""
