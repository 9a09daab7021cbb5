"""Asking: which item a person sees next, under a lease that gives the slot back by itself.

The queue of a project is its open items by priority, highest first, then by age. A person's cursor remembers up to
where nothing in it is for them; whatever opens an item before a cursor moves the cursor back.
"""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import Item, Presentation, Project, TaskMode
from assent.feedback.refusals import NotFound
from assent.feedback.store import accounts, projects
from assent.feedback.store.item_choice import ItemChoice
from assent.feedback.store.rows import item_of, presentation_of, to_json
from assent.feedback.store.schema import contents, cursors, items, presentations, slots
from assent.feedback.store.session import NO, YES, Session, Statement, change, insert
from assent.feedback.store.slots import Slot, item_state, put, slot_of
from assent.feedback.store.writer import Transaction
from assent.seeds import derive

MOST_LEASES = 50  # that one person may hold in one project
_CLOCK_SLACK_S = 5.0

_i, _c, _s, _p, _u = items.c, contents.c, slots.c, presentations.c, cursors.c
_ITEM_COLUMNS = (
    _i.id, _i.project_id, _i.key, _i.topic, _i.priority, _i.overlap, _i.withdrawn, _i.created_at, _c.content,
)  # fmt: skip
ITEM = sa.select(*_ITEM_COLUMNS).join(contents, _c.item_id == _i.id)
_ITEM = Statement(ITEM.where(_i.id == bindparam("id")))

_SHOWN_COLUMNS = (_p.id, _p.person_id, _p.shown, _p.criteria, _p.guideline_version, _p.repeat, _p.expires_at)
_INSERT = insert(presentations)
_OPEN = sa.text("presentations.open = 1")
_OWN = Statement(
    sa.select(_p.item_id, _p.place, *_SHOWN_COLUMNS)
    .where(_p.project_id == bindparam("project"), _p.person_id == bindparam("person"), _OPEN)
    .order_by(_p.place, _p.id)
)
_SHOWN = Statement(
    sa.select(_p.item_id, _p.project_id, _p.open, *_SHOWN_COLUMNS).where(
        _p.id == bindparam("id"), _p.person_id == bindparam("person")
    )
)
_WHICH = _p.id == bindparam("which")
_SPAN: dict[str, Any] = {"granted_at": bindparam("at"), "expires_at": bindparam("until")}
_EXTEND = change(presentations, _WHICH, **_SPAN)
_REOPEN = change(presentations, _WHICH, open=YES, place=bindparam("at_place"), **_SPAN)
_CLOSE = change(presentations, _WHICH, open=NO)
_FIRST_EXPIRY = Statement(sa.select(sa.func.min(_p.expires_at)).where(_OPEN))
_EXPIRED = Statement(
    sa.select(_p.id, _p.item_id, _p.person_id, _p.repeat).where(_OPEN, _p.expires_at <= bindparam("now"))
)
_LAST_GRANT = Statement(sa.select(sa.func.max(_p.granted_at)).where(_OPEN))
_NOW: sa.BindParameter[Any] = bindparam("now")
_FROM_NOW = {"granted_at": _NOW, "expires_at": _NOW + (_p.expires_at - _p.granted_at)}
_GRANTED_LATER = change(presentations, _OPEN, _p.granted_at > bindparam("latest"), **_FROM_NOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A presentation's row without its item; `open` says whether its lease lives."""

    id: str
    item_id: int
    project_id: int
    open: bool
    order: tuple[int, ...]
    guideline_version: int
    repeat: bool


def item(session: Session, item_id: int) -> Item:
    """The item; NotFound."""
    row = session.first(_ITEM, id=item_id)
    if row is None:
        raise NotFound(f"there is no item {item_id}", now="See the items of the project.")
    return item_of(row)


def expire(transaction: Transaction) -> None:
    """Give back what was leased for too long. Leases from after now (the clock went back) start again now."""
    last = transaction.first(_LAST_GRANT)
    if last is not None and last[0] is not None and last[0] > transaction.now + _CLOCK_SLACK_S:
        transaction.run(_GRANTED_LATER, latest=transaction.now + _CLOCK_SLACK_S, now=transaction.now)
    first = transaction.first(_FIRST_EXPIRY)
    if first is None or first[0] is None or first[0] > transaction.now:
        return
    for presentation_id, item_id, person_id, repeat in transaction.rows(_EXPIRED, now=transaction.now):
        close(transaction, presentation_id, item_id, person_id, repeat=bool(repeat))


def close(transaction: Transaction, presentation_id: str, item_id: int, person_id: int, *, repeat: bool) -> None:
    """End a live lease without an answer."""
    transaction.run(_CLOSE, which=presentation_id)
    before = slot_of(transaction, item_id, person_id)
    after = dataclasses.replace(before, repeated=False) if repeat else dataclasses.replace(before, leased=False)
    if before != after:
        put(transaction, item_id, person_id, before=before, after=after)


def answered(transaction: Transaction, presentation_id: str) -> None:
    """End a live lease by an answer; the slot is the caller's to change."""
    transaction.run(_CLOSE, which=presentation_id)


def shown(session: Session, presentation_id: str, person_id: int) -> Shown | None:
    """The presentation, if it is this person's."""
    row = session.first(_SHOWN, id=presentation_id, person=person_id)
    if row is None:
        return None
    item_id, project_id, is_open, _, _, shown_order, _, version, repeat, _ = row
    where: dict[str, Any] = {"id": presentation_id, "item_id": item_id, "project_id": project_id, "open": bool(is_open)}
    order = tuple(json.loads(shown_order))
    return Shown(**where, order=order, guideline_version=version, repeat=bool(repeat))


def presentation(session: Session, presentation_id: str, person_id: int) -> Presentation | None:
    """The presentation with its item, if it is this person's, whether its lease lives or not."""
    row = session.first(_SHOWN, id=presentation_id, person=person_id)
    return None if row is None else presentation_of(row[3:], item(session, row[0]))


def renew(transaction: Transaction, presentation_id: str, person_id: int) -> bool:
    """Start the lease again; False if it has ended. NotFound where the project no longer asks the person."""
    found = shown(transaction, presentation_id, person_id)
    if found is None or not found.open:
        return False
    project = projects.find(transaction, found.project_id)
    accounts.check_works_in(transaction, project, person_id)
    until = transaction.now + project.settings.lease_s
    transaction.run(_EXTEND, which=presentation_id, at=transaction.now, until=until)
    return True


def release(transaction: Transaction, presentation_id: str, person_id: int) -> None:
    """Give a live lease back; NotFound if there was never such a presentation."""
    found = shown(transaction, presentation_id, person_id)
    if found is None:
        raise NotFound("there is no such presentation", now="Ask for the next item.")
    if found.open:
        close(transaction, presentation_id, found.item_id, person_id, repeat=found.repeat)


def reopen(transaction: Transaction, presentation_id: str, project_id: int, person_id: int, lease_s: float) -> None:
    """Lease an answered presentation again, before all others of the person."""
    own = transaction.rows(_OWN, project=project_id, person=person_id)
    place = min((row[1] for row in own), default=1) - 1
    until = transaction.now + lease_s
    transaction.run(_REOPEN, which=presentation_id, at_place=place, at=transaction.now, until=until)


def open_of(session: Session, project_id: int, person_id: int) -> list[tuple[str, int, bool]]:
    """(presentation, item, repeat) of a person's live leases."""
    own = session.rows(_OWN, project=project_id, person=person_id)
    return [(row[2], row[0], bool(row[7])) for row in own]


def lease(transaction: Transaction, project_id: int, person_id: int, count: int) -> list[Presentation]:
    """Up to `count` presentations: the person's live ones first, in the order in which they got them, then new ones."""
    project = projects.find(transaction, project_id)
    person = accounts.find(transaction, person_id)
    if not accounts.works_in(transaction, project, person_id):
        return []
    own = transaction.rows(_OWN, project=project_id, person=person_id)
    given = []
    lease_s = project.settings.lease_s
    for row in own[:count]:
        again = presentation_of(row[2:], item(transaction, row[0]))
        if again.expires_at - transaction.now < lease_s / 2:
            again = dataclasses.replace(again, expires_at=transaction.now + lease_s)
            transaction.run(_EXTEND, which=again.id, at=transaction.now, until=again.expires_at)
        given.append(again)
    place = max((row[1] for row in own), default=0)
    missing = min(count, MOST_LEASES) - len(own)
    picked = ItemChoice(transaction, project, person).pick(missing) if missing > 0 else []
    for offset, (item_id, repeat, presentation_id) in enumerate(picked, 1):
        given.append(_grant(transaction, project, person_id, item_id, repeat, presentation_id, place + offset))
    return given


def _grant(
    transaction: Transaction,
    project: Project,
    person_id: int,
    item_id: int,
    repeat: bool,
    presentation_id: str,
    place: int,
) -> Presentation:
    settings = project.settings
    the_item = item(transaction, item_id)
    order = list(range(len(the_item.new.candidates)))
    chance = random.Random(derive(0, "shown", presentation_id))
    chance.shuffle(order)
    asked = settings.mode is TaskMode.RATING or chance.random() < settings.criteria_share
    granted = Presentation(
        id=presentation_id,
        item=the_item,
        person_id=person_id,
        order=tuple(order),
        criteria=settings.criteria if asked else (),
        guideline_version=project.guideline_version,
        repeat=repeat,
        expires_at=transaction.now + settings.lease_s,
    )
    values = {"id": presentation_id, "project_id": project.id, "item_id": item_id, "person_id": person_id}
    values |= {"shown": to_json(order), "criteria": to_json(list(granted.criteria)), "repeat": int(repeat)}
    values |= {"guideline_version": granted.guideline_version, "place": place, "open": 1}
    transaction.run(_INSERT, **values, granted_at=transaction.now, expires_at=granted.expires_at)
    before = slot_of(transaction, item_id, person_id)
    after = dataclasses.replace(before, repeated=True) if repeat else dataclasses.replace(before, leased=True)
    put(transaction, item_id, person_id, before=before, after=after)
    return granted


def has_room(session: Session, item_id: int, slot: Slot) -> bool:
    """Whether an answer from outside a live lease may be kept."""
    return slot.occupied or item_state(session, item_id).has_room
