"""The hash chain: each event's sha256 covers its fields and the event before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from operator import attrgetter

from assent.errors import StoreError
from assent.feedback.records import Event

START = ""
_NAMES = "seq key kind project_id item_id person_id payload order repeat time_taken_ms guideline_version created_at"
_covered = attrgetter(*_NAMES.split(), "undone_seq")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(before: str, event: Event) -> str:
    """The hash of `event` (its own `sha256` is not read) after the event with the hash `before`."""
    return hashlib.sha256(_ENCODER.encode([before, *_covered(event)]).encode()).hexdigest()


def verify(events: Iterable[Event], *, last_seq: int, last_sha256: str) -> int:
    """The number of `events`, all there and all as they were written; StoreError names the first that is not."""
    before, expected = START, 0
    for event in events:
        expected += 1
        if event.seq != expected:
            raise _broken(expected, "is missing or out of its place")
        if digest(before, event) != event.sha256:
            raise _broken(expected, "is not as it was written, or follows another than it did")
        before = event.sha256
    if expected != last_seq or before != last_sha256:
        raise _broken(expected + 1, "is missing at the end")
    return expected


def _broken(seq: int, how: str) -> StoreError:
    now = "Somebody changed the database by hand; restore it from a backup."
    return StoreError(f"the record of events is broken: event {seq} {how}", where=f"event {seq}", now=now)
