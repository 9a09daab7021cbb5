"""What critiques, revisions and comparisons ask: any model that chats, in this process or behind an address."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
        waiting, under_way = deque(enumerate(requests)), dict[int, _UnderWay]()
        try:
            while waiting or under_way:
                yield from self._refused(waiting, under_way)
                for place in self._step(under_way):
                    yield place, _joined(under_way.pop(place))
                    progress(1)
                progress(0)
        finally:
            self._engine.abort(list(under_way))

    def _refused(
        self, waiting: deque[tuple[int, GenerationRequest]], under_way: dict[int, _UnderWay]
    ) -> Iterator[tuple[int, Written]]:
        """Begin as many as there is room for; those that the model refuses are answers already."""
        while waiting and len(under_way) < _AT_ONCE:
            place, request = waiting.popleft()
            begun = self._begun(place, request)
            if isinstance(begun, Written):
                yield place, begun
            else:
                under_way[place] = begun

    def _begun(self, place: int, request: GenerationRequest) -> _UnderWay | Written:
        try:
            tokenized = self._engine.tokenize(request)
        except DataError as error:
            return Written(text="", stop=StopReason.ERROR, problem=error.what)
        self._engine.add(tokenized, [place])
        return _UnderWay(prompt_tokens=len(tokenized.prompt_ids))

    def _step(self, under_way: Mapping[int, _UnderWay]) -> list[int]:
        """A token more for each answer; those that ended with it."""
        if under_way:
            self._engine.step(list(under_way))
        for place, one in under_way.items():
            one.chunks.append(self._engine.chunk(place))
        return [place for place, one in under_way.items() if one.chunks[-1].stop is not None]


@dataclass(slots=True, kw_only=True)
class _UnderWay:
    prompt_tokens: int
    chunks: list[StreamChunk] = field(default_factory=list)


def _joined(one: _UnderWay) -> Written:
    chunks = one.chunks
    stop = chunks[-1].stop or StopReason.ERROR
    return Written(
        text="".join(chunk.text for chunk in chunks),
        stop=stop,
        likeliest=tuple(
            {one.text: one.logp for one in token.top_logprobs} for chunk in chunks for token in chunk.tokens
        ),
        prompt_tokens=one.prompt_tokens,
        completion_tokens=len(chunks),
        problem="the model's numbers are not finite" if stop is StopReason.ERROR else "",
    )
