"""Strange requests for `serve_fuzz`, each made from a seed, and the reading of what comes back."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from assent.seeds import python_rng

NAME = "tiny"
Kind = Literal["chat", "text", "models", "health", "any"]
_PATHS = {"chat": "/v1/chat/completions", "text": "/v1/completions"}
_TEXTS = (
    "", " ", "hi", "What is red?", "\x00", "a\x00b", "\u202eabc\u202c", "\u200f\u05d0\u05d1", "e" + "\u0301" * 300,
    "👩‍👩‍👧‍👦" * 30, "🏴" + "\U000e0067" * 50, "\ufdd0", "\uffff\ufffe", "\U0010ffff", "\ufffd", "\ufeffx", "\r\n" * 20,
    "\x1b[31m", "<|end|>", "<|im_start|>assistant\n", "<|im_end|>" * 5, "<|\ufdd0end|>", "</think>",
    "<think>x</think>y", "{{ 1/0 }}", "{% for %}", "{{ messages }}", "${x}", "%s%n", "' OR 1=1", "ﷺ" * 20, "Ⅷ①ǆ",
    "İıſ", "\u0378", "\u2028\u2029", "\x85\xa0", "한국어 中文 ελληνικά हिन्दी", "a" * 500, " " * 3000,
)  # fmt: skip
_HALVES = ("\ud83d", "a\ud83d", "\ude00b", "\ud83d\ud83d", "\udfff" * 9, "\ude00\ud83d")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 128, 129, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**22, 0.0, -0.0, 1e-300,
    1e-46, 1e-6, 0.5, 1.0, 1.999, 2.0, 1e308, float("nan"), float("inf"), -float("inf"), "", "x", "1", "\ud800", [],
    [[]], [None], [0] * 50, ["a"], ["a", ""], ["\ud83d"], {}, {"a": 1}, {"type": "text"}, {"\ud800": 1},
    {"a": {"b": [{}]}}, [{}], "auto",
)  # fmt: skip
_FIELDS = (
    "model", "messages", "prompt", "temperature", "top_p", "top_k", "n", "seed", "stop", "stream", "stream_options",
    "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty",
    "logit_bias", "tools", "tool_choice", "functions", "response_format", "echo", "suffix", "best_of", "user",
    "metadata", "store", "service_tier", "parallel_tool_calls", "reasoning_effort", "modalities", "audio",
    "unheard_of", "\ud800", "",
)  # fmt: skip
_PARTS = (
    {"type": "text", "text": "a"}, {"type": "text", "text": "\ud83d"}, {"type": "text"}, {"type": "image_url"}, {},
    {"type": "text", "text": 1}, "text", None, 7, [], {"type": "text", "text": "a", "cache_control": {}},
)  # fmt: skip


class Wrong(Exception):
    """What came back must not be."""


class Connection:
    """One connection, and the answers on it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send; a server that has answered already may have closed."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def answer(self, method: str, *, kind: Kind) -> int:
        """The status of the next answer; Wrong where it is not in the interface's form."""
        line = self._file.readline(1000)
        if not line.startswith(b"HTTP/1.1 "):
            raise Wrong(f"no answer but {line!r}")
        status, headers = int(line.split()[1]), {}
        while (line := self._file.readline(10_000)) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if status == 100:
            return self.answer(method, kind=kind)
        body = b"" if method == "HEAD" else self._body(headers)
        if not (200 <= status < 300 or 400 <= status < 500):
            raise Wrong(f"status {status}: {body[:300]!r}")
        if method != "HEAD":
            _check(status, headers, body, kind)
        return status

    @staticmethod
    def once(port: int, data: bytes, method: str, *, kind: Kind) -> int:
        """Send and read one answer on a connection of its own."""
        with Connection(port) as connection:
            connection.send(data)
            return connection.answer(method, kind=kind)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            body = self._file.read(int(headers.get("content-length", "0")))
            if len(body) < int(headers.get("content-length", "0")):
                raise Wrong("the body is shorter than announced")
            return body
        parts = []
        while size := int(self._file.readline(100) or b"x", 16):
            parts.append(self._file.read(size))
            if self._file.readline(10) != b"\r\n":
                raise Wrong("a chunk does not end")
        self._file.readline(10)
        return b"".join(parts)


def _check(status: int, headers: dict[str, str], body: bytes, kind: Kind) -> None:
    """The form of an answer."""
    if headers.get("content-type", "").startswith("text/event-stream"):
        *events, last, end = body.decode().split("\n\n")
        parsed = [json.loads(event.removeprefix("data: ")) for event in events]
        if end or last != "data: [DONE]" or any("error" in one for one in parsed):
            raise Wrong(f"a stream ends with {body[-300:]!r}")
        return
    content = json.loads(body.decode())
    if status >= 400:
        error = content["error"]
        if set(error) != {"message", "type", "param", "code"} or not error["message"]:
            raise Wrong(f"status {status} in another form: {body[:300]!r}")
    elif kind in ("chat", "text"):
        if not content["choices"] or any(one["finish_reason"] not in ("stop", "length") for one in content["choices"]):
            raise Wrong(f"a strange answer: {body[:300]!r}")
    elif kind != "any" and not ({"ok", "data", "id"} & set(content)):
        raise Wrong(f"a strange answer: {body[:300]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One strange request, or a few on one connection: `send` gives the statuses, "left" where nothing was awaited."""

    about: str
    send: Callable[[int], list[str]]


def case(seed: int, family: str, number: int) -> Case:
    """The request with that number."""
    rng = python_rng(seed, family, number)
    make = rng.choices([one for one, _ in _CASES], [weight for _, weight in _CASES])[0]
    return make(rng)


def plain() -> bytes:
    """A request as anybody would send it."""
    return head("chat", dumped(_asking("What is red?")))


def head(kind: Kind, body: bytes, *, method: str = "POST", more: str = "", path: str | None = None) -> bytes:
    """A whole request."""
    path = path or _PATHS[kind]
    lines = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


def dumped(content: Any, rng: random.Random | None = None) -> bytes:
    """JSON; now and then with surrogates as bytes instead of escapes."""
    if rng is not None and rng.random() < 0.2:
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return json.dumps(content).encode()


def _asking(text: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": text}], "max_tokens": 3}


def _text(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(_TEXTS)
    if kind < 0.55:
        return rng.choice(_HALVES)
    ends = (128, 0x3000, 0xD800)
    return "".join(chr(rng.randrange(rng.choice(ends))) for _ in range(rng.randrange(1, 20)))


def _usual(rng: random.Random) -> tuple[Kind, dict[str, Any]]:
    """A request whose fields all have their types, with strange texts."""
    kind: Kind = rng.choice(("chat", "chat", "text"))
    sent: dict[str, Any] = {"model": NAME if rng.random() < 0.97 else _text(rng)}
    if kind == "chat":
        roles = rng.choice((["user"], ["user"], ["system", "user"], ["user", "assistant", "user"], ["developer"]))
        if rng.random() < 0.1:
            roles = [
                rng.choice(("user", "assistant", "system", "tool", "robot", "\ud800")) for _ in range(rng.randrange(30))
            ]
        sent["messages"] = [{"role": role, "content": _content(rng)} for role in roles]
    else:
        sent["prompt"] = _text(rng)
    choices: dict[str, Callable[[], Any]] = {
        "max_tokens": lambda: rng.choice((1, 2, 3, 5, 8, 90)), "temperature": lambda: rng.choice((0, 0.5, 1, 2, 1e-9)),
        "top_p": lambda: rng.choice((1e-300, 0.1, 0.9, 1)), "top_k": lambda: rng.choice((0, 1, 5, 10**9, 2**62)),
        "n": lambda: rng.choice((1, 2, 5, 32)), "seed": lambda: rng.choice((0, -1, 2**63 - 1, -(2**63))),
        "stop": lambda: rng.choice((_text(rng), [_text(rng)], ["a", "b", "c", "d"], [], None)),
        "stream": lambda: rng.random() < 0.7, "user": lambda: _text(rng),
    }  # fmt: skip
    sent |= {name: value() for name, value in choices.items() if rng.random() < 0.3}
    sent.setdefault("max_tokens", 3)
    if rng.random() < 0.2:
        sent |= (
            {"logprobs": True, "top_logprobs": rng.randrange(21)} if kind == "chat" else {"logprobs": rng.randrange(6)}
        )
    if sent.get("stream") and rng.random() < 0.3:
        sent["stream_options"] = {"include_usage": True}
    return kind, sent


def _content(rng: random.Random) -> Any:
    return _text(rng) if rng.random() < 0.85 else [rng.choice(_PARTS) for _ in range(rng.randrange(4))]


def _one(kind: Kind, data: bytes, about: str, method: str = "POST") -> Case:
    return Case(about=about, send=lambda port: [str(Connection.once(port, data, method, kind=kind))])


def _usual_case(rng: random.Random) -> Case:
    kind, sent = _usual(rng)
    return _one(kind, head(kind, dumped(sent, rng)), ascii(sent)[:400])


def _wrong_types(rng: random.Random) -> Case:
    """A few fields hold anything."""
    kind, sent = _usual(rng)
    for _ in range(rng.randrange(1, 4)):
        place: Any = sent
        if kind == "chat" and sent.get("messages") and isinstance(sent["messages"], list) and rng.random() < 0.3:
            place = sent["messages"][0]
        name = (
            rng.choice(_FIELDS) if place is sent else rng.choice(("role", "content", "name", "tool_calls", "x\ud800"))
        )
        if isinstance(place, dict):
            place[name] = rng.choice(_VALUES)
    return _one(kind, head(kind, dumped(sent, rng)), ascii(sent)[:400])


def _not_json(rng: random.Random) -> Case:
    deep = rng.choice((50, 900, 5000, 100_000))
    body = rng.choice((
        b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"{}" * 9, b"\x00" * 9,
        b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep, b'{"messages":' + b"[" * deep + b"]" * deep + b"}",
        b'{"model":"tiny","messages":[{"role":"user","content":"\xed\xa0\xbd"}]}', b'{"seed":' + b"9" * 5000 + b"}",
        b'{"model":"tiny","metadata":' + b"[" * deep + b"]" * deep + b',"messages":[{"role":"user","content":"a"}]}',
        b'{"model":"tiny","model":"x"}', b"{\"a\":'b'}", b'{"temperature":NaN}', b'{"temperature":1e999}',
        bytes(rng.randbytes(64)),
    ))  # fmt: skip
    kind: Kind = rng.choice(("chat", "text"))
    return _one(kind, head(kind, body), ascii(body[:200]))


def _large(rng: random.Random) -> Case:
    size = rng.choice((30_000, 200_000, 1_000_000, 3_000_000))
    unit = rng.choice(("word ", "a", " ", "👩‍👩‍👧", "e\u0301", "<|end|>", "\x00", "한"))
    text = unit * (size // len(unit.encode()))
    sent: dict[str, Any] = rng.choice((
        _asking(text), {"model": NAME, "prompt": text},
        {"model": NAME, "messages": [{"role": "user", "content": "a"}] * (size // 40)},
        _asking([{"type": "text", "text": "ab"}] * (size // 40)), _asking([0] * (size // 3)),
        _asking("a") | {"stop": [0] * (size // 3)}, _asking("a") | {"metadata": {"x": text}},
        _asking("a") | {f"k{number}": 0 for number in range(size // 12)}, _asking("a") | {"user": text, "stop": text},
        _asking("a") | {"model": text}, _asking("a") | {"stop": ["\ud800"] * (size // 9)},
    ))  # fmt: skip
    kind: Kind = "text" if "prompt" in sent else "chat"
    return _one(kind, head(kind, dumped(sent, rng)), f"large {ascii(sent)[:120]}")


def _routes(rng: random.Random) -> Case:
    paths = (
        "/healthz", "/v1/models", f"/v1/models/{NAME}", "/v1/models/%ED%A0%BD", "/v1/models/%00", "/v1/models/a/b",
        "/", "//", "/v1/embeddings", "/v1/chat/completions/", "/v1/models/" + "a" * 9000, "/docs", "/openapi.json",
        "/%", "/v1/../healthz", "/healthz?a=%ED%A0%BD", "*", "/v1/responses", "http://localhost/v1/models", "/\u00e9",
    )  # fmt: skip
    method = rng.choice(("GET", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "POST", "TRACE"))
    path = rng.choice(paths)
    more = rng.choice(
        ("", "", "Expect: 100-continue\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "Accept: \xff\r\n")
    )
    return _one("any", head("any", b"", method=method, more=more, path=path), f"{method} {path[:60]} {more!r}", method)


def _broken_http(rng: random.Random) -> Case:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in dumped(_asking("hi"))) + b"0\r\n\r\n"
    start = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    data = rng.choice((
        b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", start.encode() + b"Content-Length: x\r\n\r\n",
        start.encode() + b"Content-Length: -1\r\n\r\n",
        start.encode() + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        start.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        start.encode() + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        start.encode() + b"Bad\x00Header: a\r\n\r\n", start.encode() + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
        start.encode() + f"Content-Length: {9 << 20}\r\n\r\n".encode() + b"{",
        start.encode() + b"Authorization: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
        start.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
    ))  # fmt: skip
    return _one("any", data, f"http {data[:120]!r}")


def _leaves(rng: random.Random) -> Case:
    """The client goes away, somewhere."""
    kind, sent = _usual(rng)
    data = head(kind, dumped(sent | {"max_tokens": 80, "stream": rng.random() < 0.6}))
    cut = rng.choice((rng.randrange(len(data)), len(data), len(data)))

    def send(port: int) -> list[str]:
        with Connection(port) as connection:
            connection.send(data[:cut])
            if cut == len(data) and rng.random() < 0.5:
                connection._file.read(rng.choice((1, 20, 300)) if sent.get("stream") else 1)
        return ["left"]

    return Case(about=f"leaves after {cut} of {len(data)}", send=send)


def _pipelined(rng: random.Random) -> Case:
    """Several requests at once on one connection are answered in order."""
    pairs = [_usual(rng) for _ in range(rng.randrange(2, 5))]
    data = b"".join(head(kind, dumped(sent, rng)) for kind, sent in pairs)

    def send(port: int) -> list[str]:
        with Connection(port) as connection:
            connection.send(data)
            return [str(connection.answer("POST", kind=kind)) for kind, _ in pairs]

    return Case(about=f"pipelined {ascii([sent for _, sent in pairs])[:300]}", send=send)


def _in_pieces(rng: random.Random) -> Case:
    """A request that comes byte by byte, or in a few parts."""
    kind, sent = _usual(rng)
    data = head(kind, dumped(sent, rng))
    step = rng.choice((1, 7, 100))

    def send(port: int) -> list[str]:
        with Connection(port) as connection:
            for start in range(0, len(data), max(step, len(data) // 200)):
                connection.send(data[start : start + max(step, len(data) // 200)])
            return [str(connection.answer("POST", kind=kind))]

    return Case(about=f"in pieces {ascii(sent)[:300]}", send=send)


_CASES: tuple[tuple[Callable[[random.Random], Case], int], ...] = (
    (_usual_case, 40), (_wrong_types, 25), (_not_json, 6), (_large, 2), (_routes, 6), (_broken_http, 6), (_leaves, 6),
    (_pipelined, 5), (_in_pieces, 4),
)  # fmt: skip
