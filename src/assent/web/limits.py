"""How much anybody may ask for: requests a minute, attempts to sign in, password hashes at once, sizes, seconds."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.types import Message, Receive, Scope

from assent.web.refused import Refused

Result = TypeVar("Result")
_KEPT = 100_000  # keys remembered at most; the one not seen for longest goes first
_HASHES_AT_ONCE, _HASHES_WAITING = 2, 32
_BODY_S = 60.0
_METER, _HEADERS = "assent.body", "assent.headers"


class RequestRate:
    """A bucket per key that holds a minute's requests and fills up evenly; memory is bounded."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = float(per_minute), clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allows(self, key: Hashable) -> bool:
        """Count one request of `key`, unless its minute is used up."""
        try:
            self.take(key)
        except Refused:
            return False
        return True

    def take(self, key: Hashable) -> None:
        """Count one request of `key`; Refused (429) when its minute is used up."""
        now = self._clock()
        left, since = self._buckets.get(key, (self._most, now))
        left = min(self._most, left + (now - since) * self._most / 60)
        if left < 1:
            wait_s = math.ceil((1 - left) * 60 / self._most)
            raise _too_many("more requests than one may send in a minute", wait_s)
        self._buckets[key] = (left - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _KEPT:
            self._buckets.popitem(last=False)


class FailedAttempts:
    """Failures per key within a sliding window."""

    def __init__(self, most: int, window_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._window_s, self._clock = most, window_s, clock
        self._failures: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def check(self, *keys: Hashable, factor: int = 1) -> None:
        """Refused (429) when one of `keys` has failed `factor` times the allowed number within the window."""
        now = self._clock()
        for key in keys:
            failures = self._failures.get(key, deque())
            while failures and failures[0] <= now - self._window_s:
                failures.popleft()
            if len(failures) >= self._most * factor:
                wait_s = math.ceil(failures[-self._most * factor] + self._window_s - now)
                raise _too_many("too many attempts", max(1, wait_s))

    def note(self, *keys: Hashable) -> None:
        """One attempt of `keys`; noted before its outcome is known, so that attempts at the same moment count."""
        for key in keys:
            self._failures.setdefault(key, deque(maxlen=self._most * 100)).append(self._clock())
            self._failures.move_to_end(key)
            if len(self._failures) > _KEPT:
                self._failures.popitem(last=False)

    def forgive(self, *keys: Hashable) -> None:
        """The newest attempt of each of `keys` was no failure after all."""
        for key in keys:
            if failures := self._failures.get(key):
                failures.pop()

    def clear(self, key: Hashable) -> None:
        """No attempt of `key` counts any longer."""
        self._failures.pop(key, None)


class HashGate:
    """Lets few password hashes run at once, in threads of their own, and few wait: a flood cannot stop the rest."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_HASHES_AT_ONCE, thread_name_prefix="password")
        self._inside = 0

    async def run(self, hashing: Callable[[], Result]) -> Result:
        """The result of `hashing`; Refused (503) when too many are waiting already."""
        if self._inside >= _HASHES_AT_ONCE + _HASHES_WAITING:
            now, headers = "Try again in a few seconds.", {"Retry-After": "5"}
            raise Refused(503, "many people are signing in at this moment", now=now, headers=headers)
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, hashing)
        finally:
            self._inside -= 1


class BodyMeter:
    """Reads a request's body for the application: no more than `limit` bytes, chunked or not, and not for ever.

    A route that takes more says so with `raise_body_limit` before it reads.
    """

    __slots__ = ("_done", "_length", "_receive", "_seen", "_until", "limit")

    def __init__(self, scope: Scope, receive: Receive, limit: int, length: int | None) -> None:
        self._receive, self.limit, self._length = receive, limit, length
        self._seen, self._until, self._done = 0, 0.0, False
        scope[_METER] = self

    async def receive(self) -> Message:
        """The next message; Refused (413, 408)."""
        if self._done:
            return await self._receive()
        if self._length is not None and self._length > self.limit:
            raise self._too_large()
        loop = asyncio.get_running_loop()
        self._until = self._until or loop.time() + _BODY_S
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "the request took too long to arrive", headers={"Connection": "close"}) from None
        self._seen += len(message.get("body", b""))
        if self._seen > self.limit:
            raise self._too_large()
        self._done = not message.get("more_body", False)
        return message

    def _too_large(self) -> Refused:
        what = f"too much was sent at once: at most {self.limit:,} bytes are taken"
        return Refused(413, what, now="Send it in parts.", headers={"Connection": "close"})


def raise_body_limit(scope: Scope, limit: int) -> None:
    """Let the body of this request be up to `limit` bytes."""
    scope[_METER].limit = limit


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by name, read once; of a repeated one the first."""
    known: dict[str, str] | None = scope.get(_HEADERS)
    if known is None:
        known = scope[_HEADERS] = {}
        for name, value in scope["headers"]:
            known.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return known


def content_length(headers: Mapping[str, str]) -> int | None:
    """The announced length, None where there is none."""
    given = headers.get("content-length", "")
    return int(given) if given.isdecimal() else None


def _too_many(what: str, wait_s: int) -> Refused:
    now = f"Wait {wait_s} seconds." if wait_s < 120 else f"Wait {math.ceil(wait_s / 60)} minutes."
    return Refused(429, what, now=now, headers={"Retry-After": str(wait_s)})
