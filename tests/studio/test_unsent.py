"""Connections that send no whole request: cut off in time, and no address can take the places of others."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn

from assent.serving.server import EndpointProtocol
from assent.web.corked import CorkedProtocol
from assent.web.unsent import Unsent

HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"
BODY = HEAD + b"Content-Length: 5\r\n\r\n"
NEVER_S = 600.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says how long the body was, in a body of two parts; of the path /held the second waits to be released."""
    assert scope["type"] == "http"
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": f"{length:2}".encode(), "more_body": True})
    if scope["path"] == "/held":
        await asyncio.to_thread(RELEASED.wait, 10)
    await send({"type": "http.response.body", "body": b"!"})


RELEASED = threading.Event()


@contextmanager
def listening(unsent: Unsent, protocol: type[CorkedProtocol] = CorkedProtocol) -> Iterator[int]:
    """The app on a free port, served as our sites are."""
    config = uvicorn.Config(
        app, port=0, log_level="error", lifespan="off", http=partial(protocol, unsent=unsent), timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def connected(port: int, data: bytes, *, source: str = "127.0.0.1") -> socket.socket:
    """A connection on which `data` has been sent."""
    connection = socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0))
    connection.sendall(data)
    return connection


def told(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    said = b""
    try:
        while part := connection.recv(65_536):
            said += part
    except ConnectionResetError:
        pass
    return said


def asked(port: int, *, source: str = "127.0.0.1") -> tuple[int, bytes]:
    """A whole request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    connection.request("POST", "/x", b"12345")
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize("sent", [HEAD, b"P", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_half_a_head_is_timed_out(sent: bytes) -> None:
    with listening(Unsent(head_timeout_s=0.2, most_per_address=99)) as port, connected(port, sent) as connection:
        assert told(connection).startswith(b"HTTP/1.1 408 ")


def test_a_connection_without_a_word_is_closed_without_a_word() -> None:
    with listening(Unsent(head_timeout_s=0.2, most_per_address=99)) as port, connected(port, b"") as connection:
        assert told(connection) == b""


@pytest.mark.parametrize(
    ("at_once", "later"), [(HEAD, b""), (b"P", b""), (b"", HEAD), (b"", b"P"), (b"", b"\r\n"), (b"\r\n", b"\r\n")]
)
def test_half_of_a_second_head_is_timed_out_too(at_once: bytes, later: bytes) -> None:
    unsent, sent = Unsent(head_timeout_s=0.2, most_per_address=99), BODY + b"12345" + at_once
    with listening(unsent) as port, connected(port, sent) as connection:
        said = b""
        while not said.endswith(b" 5!"):
            said += connection.recv(1000)
        connection.sendall(later)
        assert told(connection)[:13] in (b"HTTP/1.1 408 ", b"") and said.startswith(b"HTTP/1.1 200 ")


def test_drops_that_keep_a_head_growing_do_not_keep_it_open() -> None:
    with listening(Unsent(head_timeout_s=0.3, most_per_address=99)) as port, connected(port, HEAD) as connection:
        connection.settimeout(0.02)
        said, drops = b"", 0
        while not said and drops < 500:
            try:
                connection.sendall(b"X: a\r\n")
                said = connection.recv(1000)
            except TimeoutError:
                drops += 1
            except ConnectionError:
                break
        assert drops < 500


def test_a_slow_body_is_not_a_slow_head() -> None:
    with listening(Unsent(head_timeout_s=0.1, most_per_address=99)) as port, connected(port, BODY) as connection:
        threading.Event().wait(0.5)
        connection.sendall(b"12345")
        said = b""
        while not said.endswith(b" 5!"):
            said += connection.recv(1000)
        assert said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [HEAD, b"", BODY + b"12", BODY + b"12345"])
def test_of_too_many_unsent_requests_of_an_address_the_oldest_are_closed_and_all_are_served(sent: bytes) -> None:
    """Half heads, nothing at all, half bodies, connections kept open after an answer: 40 of them, 8 have a place."""
    with listening(Unsent(head_timeout_s=NEVER_S, most_per_address=8)) as port, ExitStack() as stack:
        waiting = [stack.enter_context(connected(port, sent, source="127.0.0.2")) for _ in range(40)]
        for connection in waiting[:32]:
            assert told(connection) == b"" or sent.endswith(b"12345")
        other = stack.enter_context(connected(port, HEAD))
        assert asked(port) == (200, b" 5!") and asked(port, source="127.0.0.2") == (200, b" 5!")
        other.sendall(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        assert told(other).endswith(b" 0!"), "what another address has sent in part is not touched"


def test_requests_under_way_do_not_count() -> None:
    RELEASED.clear()
    with listening(Unsent(head_timeout_s=0.1, most_per_address=2)) as port, ExitStack() as stack:
        held = b"GET /held HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        many = [stack.enter_context(connected(port, held)) for _ in range(9)]
        for connection in many:
            while not connection.recv(1000).endswith(b" 0"):
                pass
        RELEASED.set()
        assert [told(connection) for connection in many] == [b"!"] * 9


def test_a_broken_second_request_does_not_stand_in_the_middle_of_the_first_answer() -> None:
    unsent, sent = Unsent(head_timeout_s=NEVER_S, most_per_address=9), BODY + b"12345" + b"garbage\r\n\r\n"
    with listening(unsent) as port, connected(port, sent) as connection:
        said = told(connection)
    assert said.count(b"HTTP/1.1") <= 2 and b" 5HTTP" not in said


def test_an_endpoint_says_it_in_the_interfaces_form() -> None:
    with listening(Unsent(head_timeout_s=0.2, most_per_address=9), EndpointProtocol) as port:
        for sent, status in [(HEAD, 408), (b"garbage\r\n\r\n", 400)]:
            with connected(port, sent) as connection:
                head, _, body = told(connection).partition(b"\r\n\r\n")
            error = json.loads(body)["error"]
            assert head.startswith(f"HTTP/1.1 {status} ".encode()) and b"application/json" in head
            assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True), ("10.0.0.1", "10.0.0.2", False), ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False), ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False), ("fe80::1%eth0", "fe80::2", True), ("", "", True),
    ],
)  # fmt: skip
def test_an_address_is_one_of_ipv4_or_a_network_of_ipv6(one: str, other: str, same: bool) -> None:
    closed: list[str] = []
    unsent = Unsent(head_timeout_s=NEVER_S, most_per_address=1)
    unsent.add(one, 1, lambda: closed.append("first"))
    unsent.add(other, 2, lambda: closed.append("second"))
    assert closed == (["first"] if same else [])
    unsent.remove(one, 1)
    unsent.remove(other, 2)
    assert not unsent._open, "nothing is remembered of who has gone"
