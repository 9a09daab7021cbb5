"""Asking: which item a person sees next, under a lease that gives the slot back by itself.

The queue of a project is its open items by priority, highest first, then by age. A person's cursor remembers up to
where nothing in it is for them; whatever opens an item before a cursor moves the cursor back.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import Item, Person, Presentation, Project, TaskMode
from assent.feedback.refusals import NotFound
from assent.feedback.store import accounts, projects
from assent.feedback.store.engine import Row, Session, Statement, insert
from assent.feedback.store.rows import item_of, presentation_of, to_json
from assent.feedback.store.schema import contents, cursors, items, presentations, slots
from assent.feedback.store.slots import Slot, item_state, put, slot_of
from assent.feedback.store.writer import Transaction
from assent.seeds import derive

MOST_LEASES = 50  # that one person may hold in one project
REPEAT_AFTER = 20  # answers of one's own before an item may be repeated
_PAGES = (32, 256, 2048)  # how many queued items are looked at, page by page
_WORTH_A_CURSOR = 64
_CLOCK_SLACK_S = 5.0

_i, _c, _s, _p, _u = items.c, contents.c, slots.c, presentations.c, cursors.c
_ITEM_COLUMNS = (
    _i.id, _i.project_id, _i.key, _i.topic, _i.priority, _i.overlap, _i.withdrawn, _i.created_at, _c.content,
)  # fmt: skip
ITEM = sa.select(*_ITEM_COLUMNS).join(contents, _c.item_id == _i.id)
_ITEM = Statement(ITEM.where(_i.id == bindparam("id")))

_QUEUED = (
    sa.select(_i.id, _i.priority, _i.topic, _s.item_id)
    .select_from(items.outerjoin(slots, sa.and_(_s.item_id == _i.id, _s.person_id == bindparam("person"))))
    .where(_i.project_id == bindparam("project"), sa.text("items.open = 1"))
    .limit(bindparam("most", type_=sa.Integer()))
)
_QUEUED_ALIKE = Statement(  # from an item on, at its priority
    _QUEUED.where(_i.priority == bindparam("priority"), _i.id >= bindparam("item")).order_by(_i.id)
)
_QUEUED_BELOW = Statement(_QUEUED.where(_i.priority < bindparam("priority")).order_by(_i.priority.desc(), _i.id))
_CURSOR = Statement(
    sa.select(_u.priority, _u.item_id).where(_u.project_id == bindparam("project"), _u.person_id == bindparam("person"))
)
_MOVE_CURSOR = Statement(
    cursors.update()
    .where(_u.project_id == bindparam("project"), _u.person_id == bindparam("person"))
    .values(priority=bindparam("value"), item_id=bindparam("item"))
)
_ADD_CURSOR = insert(cursors)
_CONTROLS = Statement(
    sa.select(_i.id, _i.topic)
    .select_from(items.outerjoin(slots, sa.and_(_s.item_id == _i.id, _s.person_id == bindparam("person"))))
    .where(
        _i.project_id == bindparam("project"),
        sa.text("items.control = 1"),
        _i.withdrawn == sa.literal_column("0"),
        _s.item_id.is_(None),
    )
    .order_by(_i.id)
    .limit(64)
)
_MINE = (_s.project_id == bindparam("project"), _s.person_id == bindparam("person"))
_REPEAT_BOUNDS = Statement(
    sa.select(_s.last_seq)
    .where(*_MINE, _s.last_seq > sa.literal_column("0"))
    .order_by(_s.last_seq.desc())
    .limit(1)
    .offset(REPEAT_AFTER)
)
_REPEATABLE = Statement(
    sa.select(_s.item_id, _i.topic)
    .join(items, _i.id == _s.item_id)
    .where(
        *_MINE,
        _s.last_seq.between(bindparam("least"), bindparam("most")),
        _s.repeated == sa.literal_column("0"),
        _s.leased == sa.literal_column("0"),
        _i.withdrawn == sa.literal_column("0"),
        _i.control == sa.literal_column("0"),
    )
    .order_by(_s.last_seq)
    .limit(8)
)

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
_EXTEND = Statement(
    presentations.update()
    .where(_p.id == bindparam("which"))
    .values(granted_at=bindparam("at"), expires_at=bindparam("until"))
)
_REOPEN = Statement(
    presentations.update()
    .where(_p.id == bindparam("which"))
    .values(
        open=sa.literal_column("1"),
        place=bindparam("at_place"),
        granted_at=bindparam("at"),
        expires_at=bindparam("until"),
    )
)
_CLOSE = Statement(presentations.update().where(_p.id == bindparam("which")).values(open=sa.literal_column("0")))
_FIRST_EXPIRY = Statement(sa.select(sa.func.min(_p.expires_at)).where(_OPEN))
_EXPIRED = Statement(
    sa.select(_p.id, _p.item_id, _p.person_id, _p.repeat).where(_OPEN, _p.expires_at <= bindparam("now"))
)
_LAST_GRANT = Statement(sa.select(sa.func.max(_p.granted_at)).where(_OPEN))
_GRANTED_LATER = Statement(
    presentations.update()
    .where(_OPEN, _p.granted_at > bindparam("latest"))
    .values(granted_at=bindparam("now"), expires_at=bindparam("now") + (_p.expires_at - _p.granted_at))
)


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
    item_id, project_id, is_open, _, _, order, _, guideline_version, repeat, _ = row
    return Shown(
        id=presentation_id,
        item_id=item_id,
        project_id=project_id,
        open=bool(is_open),
        order=tuple(json.loads(order)),
        guideline_version=guideline_version,
        repeat=bool(repeat),
    )


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
    picked = _Picking(transaction, project, person).pick(missing) if missing > 0 else []
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


class _Picking:
    """Chooses new items for one person. Chance comes from the presentation's unguessable id."""

    def __init__(self, transaction: Transaction, project: Project, person: Person) -> None:
        self._transaction, self._project, self._person = transaction, project, person
        self._declined = frozenset(person.topics_declined)
        self._who = {"project": project.id, "person": person.id}

    def pick(self, count: int) -> list[tuple[int, bool, str]]:
        """(item, whether it is a repeat, presentation id) for at most `count` presentations."""
        queued = self._queued(count)
        settings = self._project.settings
        picked: list[tuple[int, bool, str]] = []
        while queued and len(picked) < count:
            presentation_id = secrets.token_urlsafe(16)
            chance = random.Random(derive(0, "control", presentation_id))
            drawn, taken = chance.random(), {item_id for item_id, _, _ in picked}
            control: int | None = None
            if drawn < settings.control_share:
                control = self._control(chance, taken)
            elif drawn < settings.control_share + settings.repeat_share:
                control = self._repeat(chance, taken)
            repeat = control is not None and drawn >= settings.control_share
            picked.append((queued.pop(0) if control is None else control, repeat, presentation_id))
        return picked

    def _queued(self, count: int) -> list[int]:
        """The first `count` items of the queue that are for this person; moves the cursor over the others."""
        cursor = self._transaction.first(_CURSOR, **self._who)
        priority, item_id = cursor or (math.inf, 0)
        found: list[int] = []
        passed, page, first_found, last = 0, 0, None, None
        while len(found) < count:
            most = max(_PAGES[min(page, len(_PAGES) - 1)], count)
            rows = self._page(priority, item_id, most)
            for row_id, row_priority, topic, slot in rows:
                last = (row_priority, row_id)
                if slot is None and topic not in self._declined and len(found) < count:
                    found.append(row_id)
                    first_found = first_found or last
                passed += first_found is None
            if len(rows) < most:
                break
            priority, item_id, page = rows[-1][1], rows[-1][0] + 1, page + 1
        if passed >= _WORTH_A_CURSOR and last is not None:
            self._move_cursor(first_found or last, known=cursor is not None)
        return found

    def _page(self, priority: float, item_id: int, most: int) -> list[Row]:
        """The next `most` open items from a place in the queue on."""
        rows = self._transaction.rows(_QUEUED_ALIKE, **self._who, priority=priority, item=item_id, most=most)
        if len(rows) < most:
            rows += self._transaction.rows(_QUEUED_BELOW, **self._who, priority=priority, most=most - len(rows))
        return rows

    def _move_cursor(self, to: tuple[float, int], *, known: bool) -> None:
        if known:
            self._transaction.run(_MOVE_CURSOR, **self._who, value=to[0], item=to[1])
        else:
            values = {"project_id": self._project.id, "person_id": self._person.id, "priority": to[0]}
            self._transaction.run(_ADD_CURSOR, **values, item_id=to[1])

    def _control(self, chance: random.Random, taken: set[int]) -> int | None:
        rows = self._transaction.rows(_CONTROLS, **self._who)
        return self._one_of(rows, chance, taken)

    def _repeat(self, chance: random.Random, taken: set[int]) -> int | None:
        newest = self._transaction.first(_REPEAT_BOUNDS, **self._who)
        if newest is None:
            return None
        start = chance.randint(1, newest[0])
        rows = self._transaction.rows(_REPEATABLE, **self._who, least=start, most=newest[0])
        rows = rows or self._transaction.rows(_REPEATABLE, **self._who, least=1, most=start)
        return self._one_of(rows[:1], chance, taken)

    def _one_of(self, rows: Sequence[tuple[int, str]], chance: random.Random, taken: set[int]) -> int | None:
        fit = [item_id for item_id, topic in rows if topic not in self._declined and item_id not in taken]
        return chance.choice(fit) if fit else None


def has_room(session: Session, item_id: int, slot: Slot) -> bool:
    """Whether an answer from outside a live lease may be kept."""
    return slot.occupied or item_state(session, item_id).has_room
