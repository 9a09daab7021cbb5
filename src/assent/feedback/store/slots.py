"""Slots: who occupies an item, by a live lease, by standing answers, or both. An item is open while slots are left.

Control items are never open: they are given to everybody once, by share. A silent repeat occupies no slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.store.schema import cursors, items, slots
from assent.feedback.store.session import Session, Statement, change, insert
from assent.feedback.store.writer import Transaction

_s, _i, _c = slots.c, items.c, cursors.c
_HERE = (_s.item_id == bindparam("item"), _s.person_id == bindparam("person"))
_SLOT = Statement(sa.select(_s.leased, _s.standing, _s.repeated, _s.last_seq).where(*_HERE))
_INSERT = insert(slots)
_UPDATE = change(slots, *_HERE, **{n: bindparam(f"new_{n}") for n in ("leased", "standing", "repeated", "last_seq")})
_DELETE = Statement(slots.delete().where(*_HERE))
_STATE = (_i.project_id, _i.overlap, _i.control, _i.withdrawn, _i.taken, _i.given, _i.priority, _i.own_overlap)
_ITEM = Statement(sa.select(*_STATE).where(_i.id == bindparam("id")))
_WHICH = _i.id == bindparam("which")
_SET_ITEM = change(items, _WHICH, **{n: bindparam(f"new_{n}") for n in ("taken", "given", "open")})
_SET_WANTED = change(items, _WHICH, overlap=bindparam("value"), open=bindparam("new_open"))
_VALUE: sa.BindParameter[Any] = bindparam("value")
_ITEM_ID: sa.BindParameter[Any] = bindparam("item")
_PAST = (_c.priority < _VALUE) | ((_c.priority == _VALUE) & (_c.item_id > _ITEM_ID))
_RETREAT = change(cursors, _c.project_id == bindparam("project"), _PAST, priority=_VALUE, item_id=_ITEM_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One person's hold on one item; nothing at all if not `occupied`."""

    leased: bool = False
    standing: int = 0
    repeated: bool = False
    last_seq: int = 0

    @property
    def occupied(self) -> bool:
        """Whether it counts against the overlap."""
        return self.leased or self.standing > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemState:
    """The hot half of an item."""

    project_id: int
    overlap: int
    control: bool
    withdrawn: bool
    taken: int
    given: int
    priority: float
    own_overlap: bool

    @property
    def has_room(self) -> bool:
        """Whether one more person may be asked."""
        return not self.withdrawn and (self.control or self.taken < self.overlap)


def item_state(session: Session, item_id: int) -> ItemState:
    """The item's counters; it must exist."""
    row = session.first(_ITEM, id=item_id)
    assert row is not None
    values = dict(zip(ItemState.__slots__, row, strict=True))
    return ItemState(**values | {name: bool(values[name]) for name in ("control", "withdrawn", "own_overlap")})


def slot_of(session: Session, item_id: int, person_id: int) -> Slot:
    """The person's slot of the item."""
    row = session.first(_SLOT, item=item_id, person=person_id)
    if row is None:
        return Slot()
    return Slot(leased=bool(row[0]), standing=row[1], repeated=bool(row[2]), last_seq=row[3])


def put(transaction: Transaction, item_id: int, person_id: int, *, before: Slot, after: Slot) -> None:
    """Change a slot and with it the item's and the project's counters."""
    state = item_state(transaction, item_id)
    where = {"item": item_id, "person": person_id}
    values = {"leased": int(after.leased), "standing": after.standing}
    values |= {"repeated": int(after.repeated), "last_seq": after.last_seq}
    if not after.occupied:
        transaction.run(_DELETE, **where)
    elif not before.occupied:
        names = {"item_id": item_id, "person_id": person_id, "project_id": state.project_id}
        transaction.run(_INSERT, **names, **values)
    else:
        transaction.run(_UPDATE, **where, **{f"new_{name}": value for name, value in values.items()})
    taken = after.occupied - before.occupied
    given = (after.standing > 0) - (before.standing > 0)
    if taken or given:
        _count(transaction, item_id, state, taken=taken, given=given)


def set_wanted(transaction: Transaction, item_id: int, state: ItemState, overlap: int) -> None:
    """Ask so many people; the item goes on following its project's overlap. Leases and answers stay."""
    is_open = not state.control and not state.withdrawn and state.taken < overlap
    transaction.run(_SET_WANTED, which=item_id, value=overlap, new_open=int(is_open))
    if is_open:
        transaction.run(_RETREAT, project=state.project_id, value=state.priority, item=item_id)
    if not state.control and not state.withdrawn:
        finished = (state.given >= overlap) - (state.given >= state.overlap)
        transaction.count(state.project_id, wanted=overlap - state.overlap, finished=finished)


def _count(transaction: Transaction, item_id: int, state: ItemState, *, taken: int, given: int) -> None:
    now_taken, now_given = state.taken + taken, state.given + given
    is_open = not state.control and not state.withdrawn and now_taken < state.overlap
    transaction.run(_SET_ITEM, which=item_id, new_taken=now_taken, new_given=now_given, new_open=int(is_open))
    if is_open and taken < 0:
        transaction.run(_RETREAT, project=state.project_id, value=state.priority, item=item_id)
    if given and not state.control and not state.withdrawn:
        finished = (now_given >= state.overlap) - (state.given >= state.overlap)
        transaction.count(state.project_id, given=given, finished=finished)
