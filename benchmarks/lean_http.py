"""A client that costs the machine little: keep-alive connections over asyncio, no parsing beyond what is needed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

Answer = tuple[int, bytes]


class Gone(ConnectionError):
    """The connection ended before the answer."""


class Connection(asyncio.Protocol):
    """One keep-alive connection to the studio, for somebody signed in; one request at a time."""

    def __init__(self, host: str, port: int, cookie: str, csrf: str) -> None:
        self.host, self.port = host, port
        origin = f"{host}:{port}"
        self._common = (
            f"Host: {origin}\r\nCookie: assent={cookie}\r\nOrigin: http://{origin}\r\nX-CSRF-Token: {csrf}\r\n"
        )
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._buffer = b""

    async def open(self) -> None:
        """Connect, once."""
        await asyncio.get_running_loop().create_connection(lambda: self, self.host, self.port)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, method: str, path: str, content: bytes = b"") -> Answer:
        """Status and body; Gone when the server went away."""
        if self._transport is None or self._transport.is_closing():
            await self.open()
        assert self._transport is not None
        head = f"{method} {path} HTTP/1.1\r\n{self._common}"
        if content or method != "GET":
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(head.encode() + b"\r\n" + content)
        return await self._waiting

    async def get(self, path: str) -> Any:
        """The JSON at `path`; RuntimeError for any status but 200."""
        status, body = await self.ask("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path}: {status} {body[:200]!r}")
        return json.loads(body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        start = head.find(b"content-length: ") + 16
        stop = head.find(b"\r\n", start)
        length = int(head[start : stop if stop > 0 else None]) if start > 15 else 0
        if len(self._buffer) < end + 4 + length:
            return
        answer = int(head[9:12]), self._buffer[end + 4 : end + 4 + length]
        self._buffer = b""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """For asyncio."""
        self._transport = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Gone("the server hung up"))
