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
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from assent.config import Settings
from assent.ports.sampling import Asked, Piece, PromptTooLong, StepSampler
from assent.studio.endpoint_guard import EndpointGuard
from assent.studio.openai_answers import AnswerForm, ChoiceSoFar, Kind, Problem, ProblemError
from assent.studio.openai_schemas import ChatRequest, TextRequest
from assent.studio.writing_queue import Failed, Grown, QueueClosed, QueueFull, Started, Ticket, Told, WritingQueue
from assent.types import StopReason

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ServingLimits(Settings):
    """How an endpoint takes requests: completions written side by side, requests that wait, bytes of one request."""

    most_rows: Annotated[int, Field(ge=1, le=4096)] = 32
    most_waiting: Annotated[int, Field(ge=1)] = 64
    body_limit_bytes: Annotated[int, Field(ge=1024)] = 2 << 20


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

    app = FastAPI(title="Assent", lifespan=running, openapi_url=None)
    app.state.queue = queue
    app.add_middleware(EndpointGuard, api_key=api_key, hosts=hosts, body_limit_bytes=limits.body_limit_bytes)
    _add_routes(app, _Endpoint(queue, name, fingerprint))
    _answer_errors(app)
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


class _ClientGone(Exception):
    """Nobody waits for the answer any more."""


class _Line:
    """One request's line to the queue: what the model's thread tells comes out here, on the event loop."""

    def __init__(self, queue: WritingQueue, asked: Asked, count: int) -> None:
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self.choices = [ChoiceSoFar() for _ in range(count)]
        self.prompt_tokens = 0
        try:
            self._ticket: Ticket = queue.submit(asked, count, self._listener())
        except QueueFull:
            what = "the model is busy: too many requests wait already"
            problem = Problem(status=429, message=what, type="rate_limit_error", code="rate_limit_exceeded")
            raise ProblemError(problem) from None
        except QueueClosed:
            raise ProblemError(_CLOSED) from None

    def _listener(self) -> Callable[[Told], None]:
        loop = asyncio.get_running_loop()

        def tell(told: Told) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(self._told.put_nowait, told)

        return tell

    async def begin(self) -> None:
        """Wait until the request is accepted. Raises ProblemError."""
        told = await self._told.get()
        if isinstance(told, Failed):
            raise ProblemError(_problem_of(told))
        assert isinstance(told, Started)
        self.prompt_tokens = told.prompt_tokens

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """(choice, piece) as they come, until all choices are over. Raises ProblemError."""
        while any(choice.stop is None for choice in self.choices):
            told = await self._told.get()
            if isinstance(told, Failed):
                raise ProblemError(_problem_of(told))
            assert isinstance(told, Grown)
            if told.piece.stop is StopReason.ERROR:
                raise ProblemError(_NOT_A_NUMBER)
            self.choices[told.choice].take(told.piece)
            yield told.choice, told.piece

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
            raise _ClientGone
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


_CLOSED = Problem(
    status=503, message="the model is not there: this endpoint is stopping", type="server_error", code="unavailable"
)
_NOT_A_NUMBER = Problem(
    status=500, message="the model computes numbers that are not finite", type="server_error", code="model_error"
)


def _problem_of(failed: Failed) -> Problem:
    if failed.error is None:
        return _CLOSED
    code = "context_length_exceeded" if isinstance(failed.error, PromptTooLong) else "invalid_value"
    return Problem(status=400, message=str(failed.error), param="messages", code=code)


def _answer_errors(app: FastAPI) -> None:
    async def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return error.problem.response()

    async def on_fields(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _problem_of_fields(error).response()

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Problem(status=error.status_code, message=str(error.detail)).response()

    async def on_gone(_: Request, error: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(RequestValidationError, on_fields)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(_ClientGone, on_gone)


_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def _problem_of_fields(error: RequestValidationError) -> Problem:
    """The first field that cannot be used; of the ways to give a message's content, the one that was tried."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "unsupported_content"), errors[0])
    path = [str(part) for part in first["loc"][1:] if not str(part).startswith(("list[", "str", "function-"))]
    param = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        message = f"unknown parameter: '{param}'"
    elif first["type"] == "json_invalid":
        message, param = f"the body is not JSON: {first['ctx']['error']}", None
    else:
        reason = str(first["msg"]).replace("Input should be", "expected").replace("Field required", "is required")
        message = f"{param}: {reason[:1].lower()}{reason[1:]}" if param else reason
    named = first.get("ctx", {}).get("name")
    return Problem(status=400, message=message, param=named or param, code=_CODES.get(first["type"], "invalid_value"))
