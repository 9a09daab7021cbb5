"""How far a project is, from counters that the writer keeps; the cost does not grow with the number of events."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.refusals import NotFound
from assent.feedback.store.schema import presentations, projects, standing, tallies
from assent.feedback.store.session import Row, Session, Statement

LATEST = 200  # answers of a person that the median time is taken over

_p, _t, _s = projects.c, tallies.c, standing.c
_SUMS = (_p.asked, _p.finished, _p.answers, _p.skipped, _p.flagged, _p.wanted, _p.given)
_COUNTERS = Statement(sa.select(*_SUMS).where(_p.id == bindparam("project")))
_LEASED = Statement(
    sa.select(sa.func.count()).where(
        presentations.c.project_id == bindparam("project"),
        sa.text("presentations.open = 1"),
        presentations.c.expires_at > bindparam("now"),
    )
)
_TALLIES = Statement(
    sa.select(_t.person_id, _t.answers, _t.skipped, _t.flagged, _t.total_ms, _t.first_at, _t.last_at)
    .where(_t.project_id == bindparam("project"))
    .order_by(_t.person_id)
)
_TIMES = Statement(
    sa.select(_s.time_taken_ms)
    .where(_s.project_id == bindparam("project"), _s.person_id == bindparam("person"))
    .order_by(_s.seq.desc())
    .limit(LATEST)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonProgress:
    """What one person has done in a project; undone answers do not count.

    `median_ms` is over the latest 200 standing answers; `per_hour` is answers per hour of answering time (0.0 while
    no time is known).
    """

    answers: int
    skipped: int
    flagged: int
    median_ms: float
    per_hour: float
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a project is. Control items and withdrawn ones are not part of `items`, `finished` or the labels.

    `answers` counts standing answers, also to control items and repeats. `labels_given` counts the people who have
    answered, summed over items; `labels_wanted` is the sum of the overlaps; `leased` is what people have open now.
    """

    items: int
    finished: int
    answers: int
    skipped: int
    flagged: int
    leased: int
    labels_wanted: int
    labels_given: int
    by_person: Mapping[int, PersonProgress]


def progress(session: Session, project_id: int, now: float) -> Progress:
    """The project's progress; NotFound."""
    *counts, wanted, given = _counters(session, project_id)
    leased = session.first(_LEASED, project=project_id, now=now)
    assert leased is not None
    people = {}
    for person_id, *told, total_ms, first_at, last_at in session.rows(_TALLIES, project=project_id):
        times = [time for (time,) in session.rows(_TIMES, project=project_id, person=person_id)]
        people[person_id] = PersonProgress(
            **dict(zip(("answers", "skipped", "flagged"), told, strict=True)),
            median_ms=float(statistics.median(times)) if times else 0.0,
            per_hour=sum(told) * 3_600_000 / total_ms if total_ms else 0.0,
            first_at=first_at,
            last_at=last_at,
        )
    counted = dict(zip(("items", "finished", "answers", "skipped", "flagged"), counts, strict=True))
    return Progress(**counted, leased=leased[0], labels_wanted=wanted, labels_given=given, by_person=people)


def labels_left(session: Session, project_id: int) -> int:
    """How many labels the project still wants; NotFound."""
    *_, wanted, given = _counters(session, project_id)
    return max(0, int(wanted - given))


def _counters(session: Session, project_id: int) -> Row:
    row = session.first(_COUNTERS, project=project_id)
    if row is None:
        raise NotFound(f"there is no project {project_id}", now="See the list of projects.")
    return row
