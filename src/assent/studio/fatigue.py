"""When to suggest a break: long sittings, always the left one, answers faster than one can read. Pure.

Long reading goes with fewer slips up to a point; repeated choices by position and sudden speed go with more of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from assent.feedback.records import Event, EventKind

_HOUR_S = 3600.0
_BREAK_S = 300.0  # a pause that counts as one
_LONG_MINUTES = 50
_LONG_RUN = 8  # by chance once in 256 pairs
_RECENT, _FEWEST = 10, 30  # the last answers, against all that came before if there are enough of those
_SUDDEN = 0.4  # of the person's own earlier median


@dataclass(frozen=True, slots=True, kw_only=True)
class Fatigue:
    """How somebody's last hour went; `hint` is a sentence for them, None when all is well."""

    answers_last_hour: int
    minutes_without_break: int
    always_left_run: int
    speed_outlier: bool
    hint: str | None


def fatigue_of(newest_first: Sequence[Event], now: float) -> Fatigue:
    """What the standing answers of one person in one project, newest first, say at the time `now`."""
    minutes = _minutes_without_break(newest_first, now)
    won = [first for event in newest_first if (first := first_shown_won(event)) is not None]
    run = sum(1 for _ in takewhile(bool, won))
    times = [event.time_taken_ms for event in newest_first if event.time_taken_ms > 0]
    recent, before = times[:_RECENT], times[_RECENT:]
    outlier = len(before) >= _FEWEST and statistics.median(recent) < _SUDDEN * statistics.median(before)
    hint = None
    if minutes >= _LONG_MINUTES:
        hint = f"You have worked for {minutes} minutes without a break. A short pause keeps the next answers good."
    elif run >= _LONG_RUN:
        hint = f"The first answer shown has won {run} times in a row. That can be chance, but look again at the others."
    elif outlier:
        hint = "Your last answers were much faster than usual. Take the time you need, or take a break."
    last_hour = sum(event.created_at > now - _HOUR_S for event in newest_first)
    return Fatigue(
        answers_last_hour=last_hour,
        minutes_without_break=minutes,
        always_left_run=run,
        speed_outlier=outlier,
        hint=hint,
    )


def first_shown_won(event: Event) -> bool | None:
    """Whether what stood first was annotated best, alone; None where the answer compares nothing."""
    if len(event.order) < 2:
        return None
    first = event.order[0]
    if event.kind is EventKind.PAIRWISE:
        strength = event.payload.get("strength", 0)
        return bool(strength < 0 if first == 0 else strength > 0)
    ranks = event.payload.get("ranks")
    if event.kind not in (EventKind.RANKING, EventKind.CORRECTION) or not ranks:
        return None
    others = [rank for position, rank in enumerate(ranks) if position != first]
    return bool(ranks[first] < min(others))


def _minutes_without_break(newest_first: Sequence[Event], now: float) -> int:
    end = start = now
    for event in newest_first:
        if start - event.created_at > _BREAK_S:
            break
        taken_s = event.time_taken_ms / 1000
        start = event.created_at - (taken_s if taken_s < _BREAK_S else 0.0)
    return int(max(0.0, end - start) // 60)
