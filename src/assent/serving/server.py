"""An endpoint as a process: it listens, says so, and stops cleanly when asked."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from assent.errors import BackendError, ConfigError
from assent.serving.endpoint import ServingLimits
from assent.serving.generation_queue import GenerationQueue
from assent.serving.problems import problem_of_status
from assent.web.corked import CorkedProtocol
from assent.web.unsent import Unsent

_GRACE_S = 3  # how long answers under way may go on after a request to stop
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EVERYWHERE = ("", "0.0.0.0", "::")


def hosts_of(host: str) -> frozenset[str] | None:
    """The names under which an endpoint bound to `host` may be called; None (any) where it is open to the network."""
    if host in _EVERYWHERE:
        return None
    return LOOPBACK | {f"[{host}]" if ":" in host else host.lower()}


def run_endpoint(app: FastAPI, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` gets the address once requests are taken. Port 0 takes a free one.

    Raises ConfigError where the address cannot be had, BackendError where the model broke.
    """
    listening = _listen(host, port)
    limits: ServingLimits = app.state.limits
    unsent = Unsent(head_timeout_s=limits.head_timeout_s, most_per_address=limits.connections_per_address)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S, server_header=False,
        lifespan="on", ws="none", http=partial(EndpointProtocol, unsent=unsent),  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        asyncio.run(_serve(_Server(config), listening, app.state.queue, on_ready))
    finally:
        listening.close()


class EndpointProtocol(CorkedProtocol):
    def refusal(self, status: int, what: str) -> tuple[str, bytes]:
        """In the interface's form."""
        response = problem_of_status(status, what).response()
        return "application/json", bytes(response.body)


class _Server(uvicorn.Server):
    """Signals are ours: an endpoint that was asked to stop has not failed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are taken here."""
        yield

    broken = False

    def lose_model(self) -> None:
        """The queue has ended: of itself, unless the server was stopping anyway."""
        self.broken = not self.should_exit
        self.should_exit = True

    def stop(self) -> None:
        """Take no more requests, finish those under way; the second time, at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


async def _serve(
    server: _Server, listening: socket.socket, queue: GenerationQueue, on_ready: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, server.stop)
    queue.on_end = partial(loop.call_soon_threadsafe, server.lose_model)
    serving = asyncio.ensure_future(server.serve([listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        host, port = listening.getsockname()[:2]
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")
    await serving
    if server.broken:
        raise BackendError("the model has stopped working", now="The cause is above; start the endpoint again.")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(512)
    except (OSError, OverflowError) as error:
        listening.close()
        where, now = f"{host}:{port}", "Choose another with --port (0 takes a free one)."
        raise ConfigError(f"cannot listen there ({error})", where=where, now=now) from error
    return listening
