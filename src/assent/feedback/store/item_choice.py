"""Which items a person is asked about next: the queue, with control items and silent repeats among them by share."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import Person, Project
from assent.feedback.store.schema import cursors, items, slots
from assent.feedback.store.session import NO, Statement, change, insert
from assent.feedback.store.writer import Transaction
from assent.seeds import derive

REPEAT_AFTER = 20  # answers of one's own before an item may be repeated
_PAGES = (32, 256, 2048)  # how many queued items are looked at, page by page
_WORTH_A_CURSOR = 64

_i, _s, _u = items.c, slots.c, cursors.c
_WITH_SLOT = items.outerjoin(slots, sa.and_(_s.item_id == _i.id, _s.person_id == bindparam("person")))
_QUEUED = (
    sa.select(_i.id, _i.priority, _i.topic, _s.item_id)
    .select_from(_WITH_SLOT)
    .where(_i.project_id == bindparam("project"), sa.text("items.open = 1"))
    .limit(bindparam("most", type_=sa.Integer()))
)
_QUEUED_ALIKE = Statement(  # from an item on, at its priority
    _QUEUED.where(_i.priority == bindparam("priority"), _i.id >= bindparam("item")).order_by(_i.id)
)
_QUEUED_BELOW = Statement(_QUEUED.where(_i.priority < bindparam("priority")).order_by(_i.priority.desc(), _i.id))
_OWN = (_u.project_id == bindparam("project"), _u.person_id == bindparam("person"))
_CURSOR = Statement(sa.select(_u.priority, _u.item_id).where(*_OWN))
_MOVE_CURSOR = change(cursors, *_OWN, priority=bindparam("value"), item_id=bindparam("item"))
_ADD_CURSOR = insert(cursors)
_CONTROLS = Statement(
    sa.select(_i.id, _i.topic)
    .select_from(_WITH_SLOT)
    .where(_i.project_id == bindparam("project"), sa.text("items.control = 1"), _i.withdrawn == NO)
    .where(_s.item_id.is_(None))
    .order_by(_i.id)
    .limit(64)
)
_MINE = (_s.project_id == bindparam("project"), _s.person_id == bindparam("person"))
_REPEAT_BOUNDS = Statement(
    sa.select(_s.last_seq).where(*_MINE, _s.last_seq > NO).order_by(_s.last_seq.desc()).limit(1).offset(REPEAT_AFTER)
)
_REPEATABLE = Statement(
    sa.select(_s.item_id, _i.topic)
    .join(items, _i.id == _s.item_id)
    .where(*_MINE, _s.last_seq.between(bindparam("least"), bindparam("most")))
    .where(_s.repeated == NO, _s.leased == NO, _i.withdrawn == NO, _i.control == NO)
    .order_by(_s.last_seq)
    .limit(8)
)


class ItemChoice:
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
                control = self._one_of(self._transaction.rows(_CONTROLS, **self._who), chance, taken)
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
            rows = self._transaction.rows(_QUEUED_ALIKE, **self._who, priority=priority, item=item_id, most=most)
            if len(rows) < most:
                rows += self._transaction.rows(_QUEUED_BELOW, **self._who, priority=priority, most=most - len(rows))
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

    def _move_cursor(self, to: tuple[float, int], *, known: bool) -> None:
        if known:
            self._transaction.run(_MOVE_CURSOR, **self._who, value=to[0], item=to[1])
        else:
            values = {"project_id": self._project.id, "person_id": self._person.id, "priority": to[0]}
            self._transaction.run(_ADD_CURSOR, **values, item_id=to[1])

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
