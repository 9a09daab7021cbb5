"""The route that all annotators use all the time, `POST /api/answers`, kept lean: it is described like every other and
declares its people like every other, but reads its request and writes its reply itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from assent.feedback.records import Event
from assent.feedback.store.store import FeedbackStore
from assent.studio.error_page import refusal_of_fields
from assent.studio.model_opinions import ModelOpinions
from assent.studio.schemas import AnswerIn
from assent.studio.security import ANNOTATOR, Annotator

_JSON = (b"content-type", b"application/json")


class DurableEvents:
    """Waits for events to be on the disk; a group that was committed together wakes the event loop once.

    Numbers of events only grow, so one up to the highest seen before it was asked for was there already.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self._highest = next((event.seq for event in store.events(limit=1, newest_first=True)), 0)
        self._arrived: deque[tuple[asyncio.Future[Event], Future[Event]]] = deque()
        self._woken = False

    async def settled(self, future: Future[Event]) -> tuple[Event, int]:
        """The event, and 201 or, for one that was there before, 200. Raises what the store refused with."""
        before = self._highest
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Event] = loop.create_future()

        def arrive(done: Future[Event]) -> None:  # in the store's thread
            self._arrived.append((waiting, done))
            if not self._woken:
                self._woken = True
                loop.call_soon_threadsafe(self._deliver)

        future.add_done_callback(arrive)
        event = await waiting
        self._highest = max(self._highest, event.seq)
        return event, 201 if event.seq > before else 200

    def _deliver(self) -> None:
        self._woken = False  # before the queue is emptied: what arrives from here on wakes the loop again
        while self._arrived:
            waiting, done = self._arrived.popleft()
            if waiting.done():
                continue
            error = done.exception()
            if error is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result())


def add_answer_route(router: APIRouter, store: FeedbackStore, durable: DurableEvents, opinions: ModelOpinions) -> None:
    """Put the route into `router`; the first in an application's own router is found fastest."""

    class AnswerRoute(APIRoute):
        """Serves itself."""

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] != "POST":
                await super().handle(scope, receive, send)
                return
            request = Request(scope, receive)
            actor = await ANNOTATOR(request)
            assert actor is not None
            try:
                given = AnswerIn.model_validate_json(await _body(receive))
            except ValidationError as error:
                raise refusal_of_fields(error.errors(include_url=False)) from None
            event, status = await durable.settled(store.submit(actor.person.id, given.answer()))
            body = b'{"seq":%d,"kind":"%s"%s}' % (event.seq, event.kind.encode(), await _said(opinions, event))
            headers = [_JSON, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def send_answer(given: AnswerIn, actor: Annotator) -> None:
        """Keep an answer. The reply comes after it is on the disk; the same key again gets the same reply.

        If a model has compared the two completions, the reply says which slot it prefers, and how surely.
        """
        raise AssertionError("the route serves itself")

    responses: dict[int | str, dict[str, str]] = {200: {"description": "this key was answered before"}}
    router.add_api_route(
        "/api/answers", send_answer, methods=["POST"], status_code=201, responses=responses, tags=["labeling"],
        route_class_override=AnswerRoute,
    )  # fmt: skip


async def _said(opinions: ModelOpinions, event: Event) -> bytes:
    said = await opinions.after(event)
    return b"" if said is None else b',"model":{"slot":%d,"probability":%.4f}' % said


async def _body(receive: Receive) -> bytes:
    message: Message = await receive()
    if not message.get("more_body", False):
        return bytes(message.get("body", b""))
    pieces = [message.get("body", b"")]
    while message.get("more_body", False):
        message = await receive()
        pieces.append(message.get("body", b""))
    return b"".join(pieces)
