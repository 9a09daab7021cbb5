"""A small OpenAI-compatible server for tests. It answers from a function, and misbehaves when it is told to."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, str]]
Answer = str | tuple[str, Mapping[str, float]]
"""The text, and the likeliest first tokens if the server knows them."""


@dataclass(slots=True)
class ChatServer:
    """`faults` are used up one a call: a status, "half" (a cut JSON), "silent" (no answer in time), "empty"."""

    reply: Callable[[Messages], Answer]
    faults: deque[int | str] = field(default_factory=deque)
    logprobs: str = "given"  # or "left out", or "refused"
    models: tuple[str, ...] = ("fake",)
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and content for a body."""
        self.asked.append(body)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, int):
            return fault, b'{"error": {"message": "a fault"}}'
        if fault == "silent":
            self.released.wait(20)
        if body.get("logprobs") and self.logprobs == "refused":
            return 400, b'{"error": {"message": "logprobs are not supported"}}'
        told = self.reply(body["messages"])
        text, likeliest = (told, {}) if isinstance(told, str) else told
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if body.get("logprobs") and likeliest and self.logprobs == "given":
            top = [{"token": token, "logprob": value} for token, value in likeliest.items()]
            choice["logprobs"] = {"content": [{"token": top[0]["token"], "top_logprobs": top}]}
        usage = {"prompt_tokens": 10, "completion_tokens": 2}
        content = json.dumps({"choices": [] if fault == "empty" else [choice], "usage": usage}).encode()
        return 200, content[: len(content) // 2] if fault == "half" else content


@contextmanager
def chat_server(reply: Callable[[Messages], Answer], **options: Any) -> Iterator[ChatServer]:
    """The server while the block runs."""
    state = ChatServer(reply, **options)

    class Handler(BaseHTTPRequestHandler):
        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._send(200, json.dumps({"data": [{"id": name} for name in state.models]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up waiting
                self._send(*state.answer(body))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
