"""Pages of items, of events and of what stands, each by an index, none larger than its limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.errors import StoreError
from assent.feedback.records import AnsweredItem, Event, Item
from assent.feedback.store.queue import ITEM
from assent.feedback.store.rows import event_of, item_of
from assent.feedback.store.schema import chain, events, items, standing
from assent.feedback.store.session import Row, Session, Statement

MOST_ROWS = 100_000
_i, _e, _s = items.c, events.c, standing.c
_LIMIT = bindparam("most", type_=sa.Integer())
_ITEMS = Statement(
    ITEM.where(_i.project_id == bindparam("project"), _i.id > bindparam("after")).order_by(_i.id).limit(_LIMIT)
)
_ITEM_COLUMNS = len(ITEM.selected_columns)
_EVENTS = sa.select(*events.columns).limit(_LIMIT)
_PROJECT, _PERSON = _e.project_id == bindparam("project"), _e.person_id == bindparam("person")
_AFTER = _e.seq > bindparam("after")
_ORDERS = {False: _e.seq.asc(), True: _e.seq.desc()}
_PAGES = {
    (by_project, by_person, newest): Statement(
        _EVENTS.where(_AFTER, *[_PROJECT] * by_project, *[_PERSON] * by_person).order_by(_ORDERS[newest])
    )
    for by_project, by_person, newest in itertools.product((False, True), repeat=3)
}
_SHOWN_AS = Statement(
    sa.select(_s.seq, _s.presentation_id)
    .where(_s.project_id == bindparam("project"), _s.person_id == bindparam("person"))
    .order_by(_s.seq.desc())
    .limit(_LIMIT)
)
_ANSWERED_IDS = Statement(
    sa.select(_s.item_id)
    .where(_s.project_id == bindparam("project"), _s.item_id > bindparam("after"))
    .group_by(_s.item_id)
    .order_by(_s.item_id)
    .limit(_LIMIT)
)
_WITH_EVENTS = (
    ITEM.add_columns(*events.columns)
    .join(standing, _s.item_id == _i.id)
    .join(events, _e.seq == _s.seq)
    .where(_s.project_id == bindparam("project"))
)
_BETWEEN = _s.item_id.between(bindparam("first_id"), bindparam("last_id"))
_ANSWERED = Statement(_WITH_EVENTS.where(_BETWEEN).order_by(_s.item_id, _s.seq))
_ANSWERED_ITEM = Statement(_WITH_EVENTS.where(_s.item_id == bindparam("item")).order_by(_s.seq))
_HEAD = Statement(sa.select(chain.c.seq, chain.c.sha256).where(chain.c.id == sa.literal_column("1")))


def items_page(session: Session, project_id: int, *, after: int, limit: int) -> list[Item]:
    """Items by id."""
    rows = session.rows(_ITEMS, project=project_id, after=after, most=_bounded(limit))
    return [item_of(row) for row in rows]


def events_page(
    session: Session, *, project_id: int | None, person_id: int | None, after: int, limit: int, newest_first: bool
) -> list[Event]:
    """Events by number, upwards from `after`, or the newest ones downwards to it."""
    which = {"project": project_id, "person": person_id}
    given = {name: value for name, value in which.items() if value is not None}
    statement = _PAGES[project_id is not None, person_id is not None, newest_first]
    return [event_of(row) for row in session.rows(statement, **given, after=after, most=_bounded(limit))]


def shown_as(session: Session, project_id: int, person_id: int, *, limit: int) -> dict[int, str]:
    """The presentations that a person's latest standing answers were given to, by the answer's number."""
    return dict(session.rows(_SHOWN_AS, project=project_id, person=person_id, most=_bounded(limit)))


def answered_page(session: Session, project_id: int, *, after_item: int, limit: int) -> list[AnsweredItem]:
    """Items with standing answers, by id."""
    answered = session.rows(_ANSWERED_IDS, project=project_id, after=after_item, most=_bounded(limit))
    ids = [item_id for (item_id,) in answered]
    if not ids:
        return []
    rows = session.rows(_ANSWERED, project=project_id, first_id=ids[0], last_id=ids[-1])
    return [_answered(list(group)) for _, group in itertools.groupby(rows, key=lambda row: row[0])]


def answered_item(session: Session, project_id: int, item_id: int) -> AnsweredItem | None:
    """One item with its standing answers; None if it has none."""
    rows = session.rows(_ANSWERED_ITEM, project=project_id, item=item_id)
    return _answered(rows) if rows else None


def _answered(rows: list[Row]) -> AnsweredItem:
    found = tuple(event_of(row[_ITEM_COLUMNS:]) for row in rows)
    return AnsweredItem(item=item_of(rows[0][:_ITEM_COLUMNS]), events=found)


def head(session: Session) -> tuple[int, str]:
    """The number and the hash of the newest event."""
    row = session.first(_HEAD)
    if row is None:
        raise StoreError("the record of events is broken: its end is not known", now="Restore it from a backup.")
    return row[0], row[1]


def every_event(session: Session, up_to: int) -> Iterator[Event]:
    """All events by number, up to one."""
    after = 0
    while after < up_to:
        most = min(10_000, up_to - after)
        page = events_page(session, project_id=None, person_id=None, after=after, limit=most, newest_first=False)
        yield from page
        if not page:
            return
        after = page[-1].seq


def _bounded(limit: int) -> int:
    return max(0, min(limit, MOST_ROWS))
