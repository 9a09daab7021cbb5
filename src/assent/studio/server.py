"""From an open store to a site that answers: the socket, the first admin's link, serving, stopping."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from assent.errors import ConfigError
from assent.feedback.records import PersonRole
from assent.feedback.store.store import FeedbackStore
from assent.studio.app import create_app
from assent.studio.settings import StudioSettings, own_names
from assent.web.corked import CorkedProtocol
from assent.web.unsent import Unsent

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_ADMIN_LINK_S = 86400.0
_GRACE_S = 5
_KEEP_ALIVE_S = 65
_MOST_CONNECTIONS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A bound socket and the address under which it is reached."""

    listener: socket.socket
    url: str


def bind(settings: StudioSettings) -> Door:
    """Take the port; port 0 takes a free one. ConfigError says what stands in the way."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place = f"{settings.host}:{settings.port}"
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            now = "Stop what uses it (another studio?), or give another port with --port."
            raise ConfigError(f"the port {settings.port} is in use", where=place, now=now) from None
        now = "Check the host and the port; ports below 1024 need rights."
        raise ConfigError(f"cannot listen there ({error.strerror or error})", where=place, now=now) from None
    shown = (*settings.hosts, *own_names())[0] if settings.listens_everywhere else settings.host
    port = listener.getsockname()[1]
    return Door(listener=listener, url=f"http://{f'[{shown}]' if ':' in shown else shown}:{port}")


def first_admin_path(store: FeedbackStore) -> str | None:
    """The one-time link to become the first admin; None where there is an admin who can sign in."""
    if store.can_be_run():
        return None
    return f"/join/{store.invite(PersonRole.ADMIN, (), lifetime_s=_ADMIN_LINK_S)}"


def serve(store: FeedbackStore, settings: StudioSettings, door: Door, *, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; running requests get a few seconds to end."""
    say(f"the studio answers at {door.url}")
    path = first_admin_path(store)
    if path is not None:
        say(f"there is no admin yet. Open this link once, within a day: {door.url}{path}")
    if store.is_new:
        now = "If there should be projects in it, stop now; check the path and that its disk is mounted"
        say(f"{Path(store.place).absolute()} was not there: this is a new, empty store. {now}")
    if settings.host not in _THIS_MACHINE and not settings.tls:
        now = "put a proxy with TLS before the studio (docs/studio.md) unless you trust the network"
        say(f"other machines reach this by plain HTTP, which sends passwords unencrypted: {now}")
    unsent = Unsent(head_timeout_s=settings.head_timeout_s, most_per_address=settings.connections_per_address)
    config = uvicorn.Config(
        create_app(store, settings), log_level="warning", access_log=False, server_header=False, lifespan="off",
        ws="none", proxy_headers=bool(settings.proxies), forwarded_allow_ips=list(settings.proxies),
        limit_concurrency=_MOST_CONNECTIONS, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_GRACE_S,
        http=partial(CorkedProtocol, unsent=unsent),  # type: ignore[arg-type]
    )  # fmt: skip
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        uvicorn.Server(config).run(sockets=[door.listener])
    except KeyboardInterrupt:
        pass  # uvicorn has stopped in order and passes the signal on
    finally:
        signal.signal(signal.SIGTERM, before)
        door.listener.close()
    say(f"the studio has stopped; {store.parting()}")
