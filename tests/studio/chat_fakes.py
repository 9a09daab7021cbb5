"""Endpoints for chats: two that talk, one for every way of being rude, and a site whose projects use them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from serving.endpoint_fakes import WordEngine, listening
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from studio.site import Browser, Site

from assent.feedback.records import NewItem, ProjectSettings, TaskMode
from assent.serving.endpoint import ServedModel, create_endpoint
from assent.studio.settings import EndpointSettings, StudioSettings
from assent.types import Conversation

KEY, KEY_VARIABLE = "sk-very-secret", "CHAT_TEST_KEY"
RUDE = (
    "closed", "refuses", "too_long", "redirects", "html", "no_end", "endless", "broken_json", "error_inside",
    "list_inside", "wide_line", "busy", "no_key",
)  # fmt: skip


def rude_app(seen: list[dict[str, Any]]) -> FastAPI:
    """POST /{kind}/chat/completions misbehaves in that way; /whole answers without streaming. `seen` gets requests."""
    app = FastAPI()

    @app.post("/{kind}/chat/completions")
    async def answer(kind: str, request: Request) -> Response:
        seen.append({"kind": kind, "headers": dict(request.headers), "body": await request.json()})
        if kind == "whole":
            message = {"role": "assistant", "content": "all at once \ud800\x00"}
            return Response(json.dumps({"choices": [{"message": message}]}), media_type="application/json")
        if kind == "refuses":
            return JSONResponse({"error": {"message": f"the key {KEY} is wrong"}}, 401)
        if kind == "too_long":
            return JSONResponse({"error": {"code": "context_length_exceeded"}}, 400)
        if kind == "redirects":
            return RedirectResponse("/whole/chat/completions", 307)
        if kind == "busy":
            return JSONResponse({}, 429)
        if kind == "html":
            return Response("<html>hello</html>", media_type="text/html")
        return StreamingResponse(_stream(kind), media_type="text/event-stream")

    return app


async def _stream(kind: str) -> Any:
    hello = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
    yield b": a comment\r\n\r\n" + hello
    if kind == "endless":
        while True:
            yield b'data: {"choices":[{"delta":{"content":"' + b"x" * 1000 + b'"}}]}\n\n'
            await asyncio.sleep(0)
    if kind == "broken_json":
        yield b"data: {\n\n"
    if kind == "list_inside":
        yield b"data: []\n\n"
    if kind == "error_inside":
        yield b'data: {"error":{"message":"' + KEY.encode() + b'"}}\n\n'
    if kind == "wide_line":
        yield b"data: " + b"x" * (2 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Listening endpoints as the studio's settings name them, and what the rude one was sent."""

    settings: StudioSettings
    engines: dict[str, WordEngine]
    seen: list[dict[str, Any]]
    addresses: tuple[str, ...]


@contextmanager
def chat_endpoints() -> Iterator[Endpoints]:
    """ "first" and "second", "whole", and those of `RUDE`."""
    engines = {"first": WordEngine(), "second": WordEngine()}
    seen: list[dict[str, Any]] = []
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(listening(create_endpoint({"tiny": ServedModel(engine=engine)}, api_key=KEY)))
            for name, engine in engines.items()
        }
        rude = stack.enter_context(listening(rude_app(seen)))
        endpoints = {
            name: EndpointSettings(url=f"{url}/v1", model="tiny", key_env=KEY_VARIABLE) for name, url in urls.items()
        }
        for kind in (*RUDE, "whole"):
            url = "http://127.0.0.1:9" if kind == "closed" else f"{rude}/{kind}"
            key = "NO_SUCH_VARIABLE" if kind == "no_key" else KEY_VARIABLE
            endpoints[kind] = EndpointSettings(url=url, model="tiny", key_env=key)
        settings = StudioSettings(endpoints=endpoints)
        yield Endpoints(settings=settings, engines=engines, seen=seen, addresses=(*urls.values(), rude))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSite:
    """A site whose projects are made when they are asked for, each named after its endpoints."""

    site: Site
    endpoints: Endpoints

    def browser(self) -> Browser:
        """The annotator's."""
        return self.site.browser(self.site.annotator)

    def project(self, name: str) -> int:
        """The number of one of `_USED`, or of the project of one endpoint alone."""
        store = self.site.store
        known = store.project_named(name)
        if known is not None:
            return known.id
        mode = TaskMode.RED_TEAM if name == "red" else TaskMode.CHAT
        used = _USED.get(name, (name,))
        project = store.create_project(
            name,
            ProjectSettings(mode=mode, endpoints=used, overlap=2 if name == "two" else 1, instructions="Be curious."),
        )
        store.add_items(project.id, chat_items(sensitive=name == "two"))
        people = [self.site.annotator.id, self.site.stranger.id] if name == "two" else [self.site.annotator.id]
        store.set_members(project.id, people)
        return project.id


_USED = {
    "compare": ("first", "second"), "two": ("first", "second"), "alone": ("first",), "red": ("second",),
    "half": ("first", "closed"), "nobody": ("unheard_of",),
}  # fmt: skip


def chat_items(count: int = 3, **more: Any) -> list[NewItem]:
    """Things to talk about."""
    return [NewItem(prompt=Conversation.of_user(f"hello {number}"), **more) for number in range(count)]
