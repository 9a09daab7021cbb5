"""What critiques, revisions and comparisons ask: any model that chats, in this process or behind an address."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from assent.errors import DataError
from assent.ports.generation import GenerationEngine, GenerationRequest, StreamChunk
from assent.ports.sampling import Progress, silent
from assent.types import StopReason

_AT_ONCE = 32  # written side by side by a local model


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An answer and what it cost. `likeliest` has, for each token, the likeliest tokens in its place (text -> natural
    log-probability); it is empty if none were asked for or the model gives none. A refused request has stop ERROR and
    `problem` says why."""

    text: str
    stop: StopReason = StopReason.END
    likeliest: tuple[Mapping[str, float], ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    problem: str = ""


class ChatModel(Protocol):
    """Answers requests of one completion each."""

    def write(
        self, requests: Sequence[GenerationRequest], *, progress: Progress = silent
    ) -> Iterator[tuple[int, Written]]:
        """Answers with the places of their requests, as they come; `progress` is called often, with 0 too.

        A request that the model refuses (too long, forbidden) is an answer with stop ERROR. Raises BackendError if the
        model cannot be used at all.
        """


def ask(model: ChatModel, requests: Sequence[GenerationRequest], *, progress: Progress = silent) -> list[Written]:
    """All answers in the order of the requests."""
    found = dict(model.write(requests, progress=progress))
    return [found[place] for place in range(len(requests))]


class EngineModel:
    """A chat model over the engine that also serves."""

    def __init__(self, engine: GenerationEngine) -> None:
        self._engine = engine

    def write(
        self, requests: Sequence[GenerationRequest], *, progress: Progress = silent
    ) -> Iterator[tuple[int, Written]]:
        """Up to 32 answers side by side; one that ends makes room for the next."""
        waiting, under_way = deque(enumerate(requests)), dict[int, list[StreamChunk]]()
        prompt_tokens: dict[int, int] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < _AT_ONCE:
                    place, request = waiting.popleft()
                    try:
                        tokenized = self._engine.tokenize(request)
                    except DataError as error:
                        progress(1)
                        yield place, Written(text="", stop=StopReason.ERROR, problem=error.what)
                        continue
                    self._engine.add(tokenized, [place])
                    under_way[place], prompt_tokens[place] = [], len(tokenized.prompt_ids)
                self._engine.step(list(under_way))
                progress(0)
                for place, chunks in list(under_way.items()):
                    chunks.append(self._engine.chunk(place))
                    if chunks[-1].stop is not None:
                        del under_way[place]
                        progress(1)
                        yield place, _joined(chunks, prompt_tokens[place])
        finally:
            self._engine.abort(list(under_way))


def _joined(chunks: Sequence[StreamChunk], prompt_tokens: int) -> Written:
    stop = chunks[-1].stop or StopReason.ERROR
    return Written(
        text="".join(chunk.text for chunk in chunks),
        stop=stop,
        likeliest=tuple(
            {one.text: one.logp for one in token.top_logprobs} for chunk in chunks for token in chunk.tokens
        ),
        prompt_tokens=prompt_tokens,
        completion_tokens=len(chunks),
        problem="the model's numbers are not finite" if stop is StopReason.ERROR else "",
    )
