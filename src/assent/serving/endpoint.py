"""An OpenAI-compatible endpoint over a `StepSampler`: chat completions, completions, models, health."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from assent.config import Settings
from assent.ports.sampling import GenerationRequest, StepSampler, StreamChunk
from assent.serving.generation_queue import (
    Failed,
    Fault,
    Grown,
    QueueClosed,
    QueueEvent,
    QueueFull,
    Ticket,
    WritingQueue,
)
from assent.serving.guard import EndpointGuard
from assent.serving.openai_requests import ChatRequest, TextRequest
from assent.serving.openai_responses import AnswerForm, ChoiceSoFar, Kind, Problem, ProblemError
from assent.serving.problems import NOT_A_NUMBER, ClientGone, answer_errors, problem_of
from assent.types import StopReason

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ServingLimits(Settings):
    """How an endpoint takes requests.

    Completions written side by side, requests that wait, bytes of one request, seconds that its head may take, and
    connections of one address that have sent no whole request.
    """

    most_rows: Annotated[int, Field(ge=1, le=4096)] = 32
    most_waiting: Annotated[int, Field(ge=1)] = 64
    body_limit_bytes: Annotated[int, Field(ge=1024)] = 2 << 20
    head_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    connections_per_address: Annotated[int, Field(ge=1)] = 1024


def create_endpoint(
    sampler: StepSampler,
    name: str,
    *,
    limits: ServingLimits | None = None,
    fingerprint: str = "",
    api_key: str | None = None,
    hosts: frozenset[str] | None = None,
) -> FastAPI:
    """The application; its queue (`app.state.queue`) runs between its start and its end.

    `fingerprint` tells clients which weights answer. With `api_key`, everything under /v1 wants it as bearer token.
    With `hosts`, requests for other names are refused: a page elsewhere could point its own name at this machine.
    """
    limits = limits or ServingLimits()
    queue = WritingQueue(sampler, most_rows=limits.most_rows, most_waiting=limits.most_waiting)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        try:
            yield
        finally:
            await asyncio.to_thread(queue.close)

    app = FastAPI(title="Assent", lifespan=running, openapi_url=None, redirect_slashes=False)
    app.state.queue, app.state.limits = queue, limits
    app.add_middleware(EndpointGuard, api_key=api_key, hosts=hosts, body_limit_bytes=limits.body_limit_bytes)
    _add_routes(app, _Endpoint(queue, name, fingerprint))
    answer_errors(app)
    return app


def _add_routes(app: FastAPI, endpoint: _Endpoint) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request, sent: ChatRequest) -> Response:
        return await endpoint.answer(request, "chat", sent)

    @app.post("/v1/completions")
    async def text(request: Request, sent: TextRequest) -> Response:
        return await endpoint.answer(request, "text", sent)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [endpoint.card]}

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        endpoint.check_model(model)
        return endpoint.card

    @app.get("/healthz")
    async def health() -> Response:
        queue = endpoint.queue
        content = {"ok": queue.is_open, "requests": queue.length}
        return JSONResponse(content, 200 if queue.is_open else 503)


class _Endpoint:
    """Requests to tickets, what the queue tells to answers."""

    def __init__(self, queue: WritingQueue, name: str, fingerprint: str) -> None:
        self.queue, self.name, self.fingerprint = queue, name, fingerprint
        self.created = int(time.time())

    @property
    def card(self) -> dict[str, Any]:
        """The model as the list of models shows it."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "assent"}

    def check_model(self, name: str) -> None:
        """Raises ProblemError (404) for any other name."""
        if name != self.name:
            what = f"the model '{name[:100]}' does not exist; this endpoint serves '{self.name}'"
            raise ProblemError(Problem(status=404, message=what, param="model", code="model_not_found"))

    async def answer(self, request: Request, kind: Kind, sent: ChatRequest | TextRequest) -> Response:
        """Whole or streamed; the status is settled before anything is written."""
        self.check_model(sent.model)
        form = AnswerForm(
            kind=kind,
            id=("chatcmpl-" if kind == "chat" else "cmpl-") + secrets.token_hex(12),
            created=int(time.time()),
            model=self.name,
            fingerprint=self.fingerprint,
            logprobs=bool(sent.logprobs) if isinstance(sent, ChatRequest) else sent.logprobs is not None,
        )
        if sent.count > self.queue.most_rows:
            what = f"at most {self.queue.most_rows} choices can be written at once"
            raise ProblemError(Problem(status=400, message=what, param="n", code="invalid_value"))
        line, handed_on = _Line(self.queue, sent.asked(secrets.randbits(62)), sent.count), False
        try:
            await _unless_gone(request, line.begin())
            if sent.stream:
                handed_on = True
                return _Stream(line, _chunks(form, line, usage_wanted=sent.usage_wanted))
            await _unless_gone(request, line.all())
        finally:
            if not handed_on:
                line.cancel()
        return JSONResponse(form.whole(line.choices, line.prompt_tokens), headers={"Cache-Control": "no-store"})


class _Line:
    """One request's line to the queue: what the model's thread tells comes out here, on the event loop."""

    def __init__(self, queue: WritingQueue, asked: GenerationRequest, count: int) -> None:
        self._told: asyncio.Queue[QueueEvent] = asyncio.Queue()
        self._first: Grown | None = None
        self.choices = [ChoiceSoFar() for _ in range(count)]
        try:
            self._ticket: Ticket = queue.submit(asked, count, self._listener())
        except QueueFull:
            what = "the model is busy: too many requests wait already"
            problem = Problem(status=429, message=what, type="rate_limit_error", code="rate_limit_exceeded")
            raise ProblemError(problem) from None
        except QueueClosed:
            raise ProblemError(problem_of(Failed(fault=Fault.CLOSED))) from None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, once the answer has begun."""
        return self._ticket.prompt_tokens

    def _listener(self) -> Callable[[QueueEvent], None]:
        loop = asyncio.get_running_loop()

        def tell(told: QueueEvent) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(self._told.put_nowait, told)

        return tell

    async def begin(self) -> None:
        """Wait until the answer begins. Raises ProblemError."""
        self._first = await self._next()

    async def pieces(self) -> AsyncIterator[tuple[int, StreamChunk]]:
        """(choice, piece) as they come, until all choices are over. Raises ProblemError."""
        while any(choice.stop is None for choice in self.choices):
            grown, self._first = self._first or await self._next(), None
            if grown.piece.stop is StopReason.ERROR:
                raise ProblemError(NOT_A_NUMBER)
            self.choices[grown.choice].take(grown.piece)
            yield grown.choice, grown.piece

    async def _next(self) -> Grown:
        told = await self._told.get()
        if isinstance(told, Failed):
            raise ProblemError(problem_of(told))
        return told

    async def all(self) -> None:
        """Wait for everything."""
        async for _ in self.pieces():
            pass

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._ticket.cancel()


async def _unless_gone(request: Request, work: Any) -> None:
    """Do `work`, but give it up when the client closes the connection."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """Server-sent events; however it ends, a client that leaves among others, its request ends with it."""

    def __init__(self, line: _Line, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers=_HEADERS)
        self._line = line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._line.cancel()


async def _chunks(form: AnswerForm, line: _Line, *, usage_wanted: bool) -> AsyncIterator[bytes]:
    for index in range(len(line.choices) if form.kind == "chat" else 0):
        yield _event(form.opening(index))
    try:
        lengths = [0] * len(line.choices)
        async for index, piece in line.pieces():
            chunk = form.chunk(index, piece, lengths[index])
            lengths[index] += len(piece.text)
            if chunk is not None:
                yield _event(chunk | ({"usage": None} if usage_wanted else {}))
    except ProblemError as error:
        yield _event(error.problem.body())
        return
    if usage_wanted:
        yield _event(form.closing(line.choices, line.prompt_tokens))
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'), allow_nan=False)}\n\n".encode()
