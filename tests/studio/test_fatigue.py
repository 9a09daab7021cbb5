"""When a break is suggested: from one person's answers alone, at a time that the test gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assent.feedback.records import Event, EventKind
from assent.studio.fatigue import fatigue_of, first_shown_won

ONE = Event(
    seq=1, key="k", kind=EventKind.PAIRWISE, project_id=1, item_id=1, person_id=1, payload={"strength": 1},
    order=(0, 1), repeat=False, time_taken_ms=10_000, guideline_version=1, created_at=0.0,
)  # fmt: skip


def answers(
    count: int, *, every_s: float, taken_ms: int = 10_000, strength: int = 1, until: float = 10_000.0
) -> list[Event]:
    """`count` answers, newest first, the last at `until`."""
    return [
        replace(ONE, created_at=until - place * every_s, time_taken_ms=taken_ms, payload={"strength": strength})
        for place in range(count)
    ]


@pytest.mark.parametrize(
    ("strength", "order", "won"),
    [(-1, (0, 1), True), (1, (0, 1), False), (1, (1, 0), True), (-3, (1, 0), False), (0, (0, 1), False)],
)
def test_the_first_shown_is_found_behind_the_shuffle(strength: int, order: tuple[int, ...], won: bool) -> None:
    assert first_shown_won(replace(ONE, payload={"strength": strength}, order=order)) is won


@pytest.mark.parametrize(
    ("ranks", "order", "won"),
    [
        ([1, 2, 3], (0, 1, 2), True),
        ([1, 1, 2], (0, 1, 2), False),
        ([2, 3, 1], (2, 0, 1), True),
        ([1, 2, 3], (1, 0, 2), False),
    ],
)
def test_a_ranking_is_won_by_the_single_best(ranks: list[int], order: tuple[int, ...], won: bool) -> None:
    assert first_shown_won(replace(ONE, kind=EventKind.RANKING, payload={"ranks": ranks}, order=order)) is won


def test_answers_that_compare_nothing_say_nothing() -> None:
    assert first_shown_won(replace(ONE, kind=EventKind.SKIP, payload={"reason": "unclear"})) is None
    assert first_shown_won(replace(ONE, kind=EventKind.DEMONSTRATION, order=())) is None


def test_a_long_sitting_is_a_hint_and_a_break_ends_it() -> None:
    long = fatigue_of(answers(400, every_s=10, until=10_000), now=10_000)
    assert long.minutes_without_break == 66 and long.hint is not None and "66 minutes" in long.hint
    assert long.answers_last_hour == 360
    rested = answers(20, every_s=10) + answers(400, every_s=10, until=9_000)
    assert fatigue_of(rested, now=10_000).minutes_without_break == 3
    assert fatigue_of(answers(400, every_s=10), now=10_301).minutes_without_break == 0
    assert fatigue_of([], now=5.0).hint is None


def test_always_left_is_counted_from_the_newest() -> None:
    run = answers(8, every_s=10, strength=-2) + answers(5, every_s=10, until=9_000)
    told = fatigue_of(run, now=10_000)
    assert told.always_left_run == 8 and told.hint is not None and "8 times" in told.hint
    assert fatigue_of(run[1:], now=10_000).hint is None
    assert fatigue_of(answers(1, every_s=1) + run, now=10_000).always_left_run == 0


def test_sudden_speed_is_measured_against_ones_own() -> None:
    quick = answers(10, every_s=10, taken_ms=2_000) + answers(40, every_s=10, taken_ms=9_000, until=9_000)
    assert fatigue_of(quick, now=10_000).speed_outlier
    assert not fatigue_of(quick[:39], now=10_000).speed_outlier  # too few to compare with
    assert not fatigue_of(answers(60, every_s=10, taken_ms=2_000), now=10_000).speed_outlier
