"""Counting: requests a minute, attempts, hashes at once; by a clock that the test holds."""

from __future__ import annotations

import asyncio
import threading

import pytest
from studio.site import SETTINGS, Browser, Site

from assent.studio.app import create_app
from assent.web.limits import FailedAttempts, HashGate, RequestRate
from assent.web.refused import Refused


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_requests_come_back_evenly() -> None:
    clock = Clock()
    rate = RequestRate(60, clock=clock)
    for _ in range(60):
        rate.take("a")
    with pytest.raises(Refused) as refused:
        rate.take("a")
    assert refused.value.status_code == 429 and refused.value.headers == {"Retry-After": "1"}
    rate.take("b")
    clock.now += 2
    rate.take("a")
    rate.take("a")
    with pytest.raises(Refused):
        rate.take("a")


def test_attempts_count_within_their_window_only() -> None:
    clock = Clock()
    attempts = FailedAttempts(2, 100, clock=clock)
    for _ in range(2):
        attempts.check("k")
        attempts.note("k")
        clock.now += 30
    with pytest.raises(Refused) as refused:
        attempts.check("k")
    assert refused.value.headers == {"Retry-After": "40"}
    attempts.check("k", factor=2)
    clock.now += 40
    attempts.check("k")


def test_a_forgiven_attempt_does_not_count() -> None:
    attempts = FailedAttempts(1, 100, clock=Clock())
    attempts.note("k", "other")
    attempts.forgive("k")
    attempts.check("k")
    with pytest.raises(Refused):
        attempts.check("other")


def test_many_keys_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assent.web.limits._KEPT", 10)
    rate, attempts = RequestRate(60, clock=Clock()), FailedAttempts(1, 9, clock=Clock())
    for number in range(50):
        rate.take(number)
        attempts.note(number)
    assert len(rate._buckets) == len(attempts._failures) == 10


def test_few_hashes_run_at_once_and_few_wait() -> None:
    gate, free, running, most = HashGate(), threading.Event(), 0, 0
    lock = threading.Lock()

    def hashing() -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        free.wait(5)
        with lock:
            running -= 1
        return True

    async def flood() -> list[object]:
        tasks = [asyncio.create_task(gate.run(hashing)) for _ in range(100)]
        while not any(task.done() for task in tasks):
            await asyncio.sleep(0)
        free.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    results = asyncio.run(flood())
    assert most == 2
    assert results.count(True) == 34
    assert sum(isinstance(result, Refused) and result.status_code == 503 for result in results) == 66


def test_a_person_who_asks_too_often_waits_and_others_do_not(site: Site) -> None:
    app = create_app(site.store, SETTINGS.model_copy(update={"requests_per_minute": 20}))
    mine, theirs = site.browser(site.annotator), site.browser(site.viewer)
    flood, calm = Browser(app, mine.cookie, mine.csrf), Browser(app, theirs.cookie, theirs.csrf)
    codes = [flood.get("/api/me").status_code for _ in range(25)]
    assert codes[:20] == [200] * 20 and codes[-1] == 429
    assert calm.get("/api/me").status_code == 200


def test_an_address_without_sign_in_is_limited_too(site: Site) -> None:
    app = create_app(site.store, SETTINGS.model_copy(update={"requests_per_minute": 2}))
    nobody = Browser(app)
    codes = [nobody.get("/healthz").status_code for _ in range(25)]
    assert codes[:20] == [200] * 20 and codes[-1] == 429
