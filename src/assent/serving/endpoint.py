"""An OpenAI-compatible endpoint over `GenerationEngine`s: chat completions, completions, models, health."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from assent.config import Settings
from assent.ports.generation import GenerationEngine, GenerationRequest, StreamChunk
from assent.ports.sampling import SamplingParams
from assent.serving.generation_queue import (
    ChoiceChunk,
    Fault,
    GenerationQueue,
    QueueClosed,
    QueueEvent,
    QueueFull,
    RequestFailed,
    Ticket,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What answers under one name: `sampling` is used where a request does not say how.

    `fingerprint` tells clients which weights answer.
    """

    engine: GenerationEngine
    sampling: SamplingParams = field(default_factory=SamplingParams)
    fingerprint: str = ""


def create_endpoint(
    models: Mapping[str, ServedModel],
    *,
    limits: ServingLimits | None = None,
    api_key: str | None = None,
    hosts: frozenset[str] | None = None,
) -> FastAPI:
    """The application; its queue (`app.state.queue`) runs between its start and its end.

    Requests name one of the models. With `api_key`, everything under /v1 wants it as bearer token. With `hosts`,
    requests for other hosts are refused: a page elsewhere could point its own name at this machine.
    """
    limits = limits or ServingLimits()
    queue = GenerationQueue(most_rows=limits.most_rows, most_waiting=limits.most_waiting)

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
    _add_routes(app, _Endpoint(queue, models))
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
        return {"object": "list", "data": list(endpoint.cards.values())}

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        endpoint.model(model)
        return endpoint.cards[model]

    @app.get("/healthz")
    async def health() -> Response:
        queue = endpoint.queue
        content = {"ok": queue.is_open, "requests": queue.length}
        return JSONResponse(content, 200 if queue.is_open else 503)


class _Endpoint:
    """Requests become tickets, and what the queue sends becomes answers."""

    def __init__(self, queue: GenerationQueue, models: Mapping[str, ServedModel]) -> None:
        self.queue, self._models = queue, models
        card = {"object": "model", "created": int(time.time()), "owned_by": "assent"}
        self.cards = {name: {"id": name, **card} for name in models}

    def model(self, name: str) -> ServedModel:
        """The model of that name. Raises ProblemError (404) for any other name."""
        if name not in self._models:
            served = ", ".join(f"'{one}'" for one in self._models)
            what = f"the model '{name[:100]}' does not exist; this endpoint serves {served}"
            raise ProblemError(Problem(status=404, message=what, param="model", code="model_not_found"))
        return self._models[name]

    async def answer(self, request: Request, kind: Kind, sent: ChatRequest | TextRequest) -> Response:
        """Whole or streamed; the status is settled before anything is written."""
        model = self.model(sent.model)
        form = AnswerForm(
            kind=kind,
            id=("chatcmpl-" if kind == "chat" else "cmpl-") + secrets.token_hex(12),
            created=int(time.time()),
            model=sent.model,
            fingerprint=model.fingerprint,
            logprobs=bool(sent.logprobs) if isinstance(sent, ChatRequest) else sent.logprobs is not None,
        )
        generation = sent.generation_request(secrets.randbits(62), model.sampling)
        if generation.n > self.queue.most_rows:
            what = f"at most {self.queue.most_rows} choices can be written at once"
            raise ProblemError(Problem(status=400, message=what, param="n", code="invalid_value"))
        pending, handed_on = _PendingAnswer(self.queue, model.engine, generation), False
        try:
            await _unless_gone(request, pending.begin())
            if sent.stream:
                handed_on = True
                return _Stream(pending, _events(form, pending, usage_wanted=sent.usage_wanted))
            await _unless_gone(request, pending.all())
        finally:
            if not handed_on:
                pending.ticket.cancel()
        return JSONResponse(
            form.whole(pending.choices, pending.ticket.prompt_tokens), headers={"Cache-Control": "no-store"}
        )


class _PendingAnswer:
    """One request in the queue: what the model's thread sends comes out here, on the event loop."""

    def __init__(self, queue: GenerationQueue, engine: GenerationEngine, request: GenerationRequest) -> None:
        self._events: asyncio.Queue[QueueEvent] = asyncio.Queue()
        self._first: ChoiceChunk | None = None
        self.choices = [ChoiceSoFar() for _ in range(request.n)]
        loop = asyncio.get_running_loop()

        def send(event: QueueEvent) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to listen
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        try:
            self.ticket: Ticket = queue.submit(engine, request, send)
        except QueueFull:
            what = "the model is busy: too many requests wait already"
            problem = Problem(status=429, message=what, type="rate_limit_error", code="rate_limit_exceeded")
            raise ProblemError(problem) from None
        except QueueClosed:
            raise ProblemError(problem_of(RequestFailed(fault=Fault.CLOSED))) from None

    async def begin(self) -> None:
        """Wait until the answer begins. Raises ProblemError."""
        self._first = await self._next()

    async def chunks(self) -> AsyncIterator[tuple[int, StreamChunk]]:
        """(choice, chunk) as they come, until all choices are over. Raises ProblemError."""
        while any(choice.stop is None for choice in self.choices):
            event, self._first = self._first or await self._next(), None
            if event.chunk.stop is StopReason.ERROR:
                raise ProblemError(NOT_A_NUMBER)
            self.choices[event.choice].add(event.chunk)
            yield event.choice, event.chunk

    async def _next(self) -> ChoiceChunk:
        event = await self._events.get()
        if isinstance(event, RequestFailed):
            raise ProblemError(problem_of(event))
        return event

    async def all(self) -> None:
        """Wait for everything."""
        async for _ in self.chunks():
            pass


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
    """Server-sent events. However it ends, also when the client leaves, its request ends with it."""

    def __init__(self, pending: _PendingAnswer, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS)
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pending.ticket.cancel()


async def _events(form: AnswerForm, pending: _PendingAnswer, *, usage_wanted: bool) -> AsyncIterator[bytes]:
    for index in range(len(pending.choices) if form.kind == "chat" else 0):
        yield _event(form.opening(index))
    try:
        lengths = [0] * len(pending.choices)
        async for index, chunk in pending.chunks():
            content = form.chunk(index, chunk, lengths[index])
            lengths[index] += len(chunk.text)
            if content is not None:
                yield _event(content | ({"usage": None} if usage_wanted else {}))
    except ProblemError as error:
        yield _event(error.problem.body())
        return
    if usage_wanted:
        yield _event(form.closing(pending.choices, pending.ticket.prompt_tokens))
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'), allow_nan=False)}\n\n".encode()
