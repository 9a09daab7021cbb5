"""Uvicorn's HTTP/1.1 protocol with the writes of one turn of the event loop sent together.

Head and body of an answer are two writes; each would be a system call that gives up the interpreter's lock, which the
store's thread then holds for a while. Together they cost about a fifth less processor time per answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class _Corked:
    """A transport that writes at the end of the turn, or before it closes; everything else is the transport's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold `data` until the end of the turn."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        """Write what is held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held:
            self._transport.write(b"".join(held))


class CorkedH11Protocol(H11Protocol):
    """For `uvicorn.Config(http=...)`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """For asyncio."""
        super().connection_made(_Corked(transport, self.loop))  # type: ignore[arg-type]
