"""Answers and their undoing: events are appended, slots and counters follow."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import Answer, Event, EventKind, ProjectSettings
from assent.feedback.refusals import Invalid, NotFound, Taken, text_of
from assent.feedback.store import accounts, projects, queue
from assent.feedback.store.adaptive_overlap import reconsider
from assent.feedback.store.chain import digest
from assent.feedback.store.payloads import canonical
from assent.feedback.store.rows import event_of, event_values, to_json
from assent.feedback.store.schema import events, standing
from assent.feedback.store.session import Session, Statement, insert
from assent.feedback.store.slots import item_state, put, slot_of
from assent.feedback.store.writer import Transaction

LONGEST_ANSWER_MS = 7 * 86_400_000
_e, _t = events.c, standing.c
_BY_KEY = Statement(sa.select(*events.columns).where(_e.person_id == bindparam("person"), _e.key == bindparam("key")))
_BY_SEQ = Statement(sa.select(*events.columns).where(_e.seq == bindparam("seq")))
_INSERT, _STAND = insert(events), insert(standing)
_FALL = Statement(standing.delete().where(_t.seq == bindparam("which")))
_STANDING = Statement(sa.select(_t.person_id, _t.presentation_id).where(_t.seq == bindparam("seq")))
_OWN_KINDS = Statement(
    sa.select(_t.kind, _t.repeat).where(
        _t.project_id == bindparam("project"), _t.item_id == bindparam("item"), _t.person_id == bindparam("person")
    )
)
_REFUSALS = {EventKind.SKIP: "skipped", EventKind.FLAG: "flagged"}
_MANY = frozenset({EventKind.CHAT_TURN})


def submit(transaction: Transaction, person_id: int, answer: Answer) -> Event:
    """Keep an answer; the first event again if it was sent before. Raises NotFound, Invalid, Taken."""
    text_of(answer.key, "key", least=1, most=200)
    again = transaction.first(_BY_KEY, person=person_id, key=answer.key)
    if again is not None:
        return _sent_before(transaction, event_of(again), answer)
    shown = queue.shown(transaction, answer.presentation_id, person_id)
    if shown is None:
        raise NotFound("there is no such presentation", where="presentation_id", now="Ask for the next item.")
    project = projects.find(transaction, shown.project_id)
    accounts.check_works_in(transaction, project, person_id)
    payload = canonical(answer.kind, answer.payload, shown.order, project.settings)
    taken = answer.time_taken_ms
    if isinstance(taken, bool) or not isinstance(taken, int) or taken < 0:
        raise Invalid("expected milliseconds", where="time_taken_ms", now="Send a whole number from 0.")
    _refuse_second(transaction, person_id, answer.kind, shown)
    event = Event(
        seq=transaction.head[0] + 1,
        key=answer.key,
        kind=answer.kind,
        project_id=shown.project_id,
        item_id=shown.item_id,
        person_id=person_id,
        payload=payload,
        order=shown.order,
        repeat=shown.repeat,
        time_taken_ms=min(taken, LONGEST_ANSWER_MS),
        guideline_version=shown.guideline_version,
        created_at=transaction.now,
    )
    _occupy(transaction, event, shown)
    kept = _append(transaction, event)
    same: dict[str, Any] = {n: getattr(kept, n) for n in ("seq", "project_id", "item_id", "person_id", "time_taken_ms")}
    transaction.run(_STAND, **same, kind=str(kept.kind), presentation_id=shown.id, repeat=int(kept.repeat))
    _count(transaction, kept, 1)
    if not kept.repeat:
        reconsider(transaction, shown.project_id, shown.item_id)
    return kept


def _sent_before(session: Session, kept: Event, answer: Answer) -> Event:
    """The event, if `answer` says the same of the same presentation; Taken where its key stands for something else."""
    shown = queue.shown(session, answer.presentation_id, kept.person_id)
    stands = session.first(_STANDING, seq=kept.seq)
    if (
        shown is None
        or (stands is not None and stands[1] != shown.id)
        or (shown.item_id, shown.order, shown.repeat) != (kept.item_id, kept.order, kept.repeat)
        or answer.kind is not kept.kind
        or not _says_the_same(answer, kept, projects.find(session, kept.project_id).settings)
    ):
        raise _used_key()
    return kept


def _says_the_same(answer: Answer, kept: Event, settings: ProjectSettings) -> bool:
    try:
        return to_json(canonical(answer.kind, answer.payload, kept.order, settings)) == to_json(kept.payload)
    except Invalid:
        return False


def _used_key() -> Taken:
    return Taken("this key was used for something else", where="key", now="Send what is new with a new key.")


def _refuse_second(session: Session, person_id: int, kind: EventKind, shown: queue.Shown) -> None:
    """A person's slot holds one standing answer of a kind (chat turns: many), and a skip only alone."""
    rows = session.rows(_OWN_KINDS, project=shown.project_id, item=shown.item_id, person=person_id)
    kinds = {EventKind(name) for name, repeat in rows if bool(repeat) == shown.repeat}
    alone = EventKind.SKIP in kinds or (kind is EventKind.SKIP and kinds)
    if alone or (kind in kinds and kind not in _MANY):
        raise Taken("taken: you have answered this item already", now="Undo that answer first.")


def _occupy(transaction: Transaction, event: Event, shown: queue.Shown) -> None:
    """Turn the lease (or a free slot) into an answered slot; Taken if others have filled the item meanwhile."""
    assert event.item_id is not None
    before = slot_of(transaction, event.item_id, event.person_id)
    if not shown.repeat and not queue.has_room(transaction, event.item_id, before):
        raise Taken("taken: the lease had ended and others have answered this item", now="Ask for the next item.")
    for presentation_id, item_id, repeat in queue.open_of(transaction, shown.project_id, event.person_id):
        if item_id == event.item_id and repeat == shown.repeat:
            queue.answered(transaction, presentation_id)
    if shown.repeat:
        after = dataclasses.replace(before, repeated=True) if before.occupied else before
    else:
        after = dataclasses.replace(before, leased=False, standing=before.standing + 1, last_seq=event.seq)
    put(transaction, event.item_id, event.person_id, before=before, after=after)


def _append(transaction: Transaction, event: Event) -> Event:
    kept = dataclasses.replace(event, sha256=digest(transaction.head[1], event))
    transaction.run(_INSERT, **event_values(kept))
    transaction.move_head(kept.seq, kept.sha256)
    return kept


def _count(transaction: Transaction, event: Event, sign: int) -> None:
    which = _REFUSALS.get(event.kind, "answers")
    transaction.count(event.project_id, **{which: sign})
    more = {which: sign, "total_ms": sign * event.time_taken_ms}
    transaction.count_person(event.project_id, event.person_id, **more)


def undo(transaction: Transaction, person_id: int, event_seq: int, key: str) -> Event:
    """Take back an own standing answer; the item is leased to the person again, before all others. NotFound, Taken."""
    text_of(key, "key", least=1, most=200)
    again = transaction.first(_BY_KEY, person=person_id, key=key)
    if again is not None:
        before = event_of(again)
        if before.undone_seq != event_seq:
            raise _used_key()
        return before
    row = transaction.first(_BY_SEQ, seq=event_seq)
    undone = None if row is None else event_of(row)
    if undone is None or undone.person_id != person_id or undone.kind is EventKind.UNDO:
        raise NotFound(f"you have no answer {event_seq}", now="See your latest answers.")
    accounts.check_works_in(transaction, projects.find(transaction, undone.project_id), person_id)
    stands = transaction.first(_STANDING, seq=event_seq)
    if stands is None:
        raise Taken(f"answer {event_seq} was undone already", now="See your latest answers.")
    event = dataclasses.replace(
        undone,
        seq=transaction.head[0] + 1,
        key=key,
        kind=EventKind.UNDO,
        payload={},
        time_taken_ms=0,
        created_at=transaction.now,
        undone_seq=event_seq,
        sha256="",
    )
    kept = _append(transaction, event)
    transaction.run(_FALL, which=event_seq)
    _count(transaction, undone, -1)
    _give_back(transaction, undone, presentation_id=stands[1])
    if not undone.repeat and undone.item_id is not None:
        reconsider(transaction, undone.project_id, undone.item_id)
    return kept


def _give_back(transaction: Transaction, undone: Event, *, presentation_id: str) -> None:
    """The undone item comes to the person again, under the lease of its old presentation."""
    assert undone.item_id is not None
    lease_s = projects.find(transaction, undone.project_id).settings.lease_s
    slot = slot_of(transaction, undone.item_id, undone.person_id)
    again = not item_state(transaction, undone.item_id).withdrawn and slot.occupied
    for other, item_id, repeat in queue.open_of(transaction, undone.project_id, undone.person_id):
        if item_id == undone.item_id and (repeat or not undone.repeat):
            queue.close(transaction, other, item_id, undone.person_id, repeat=repeat)
    before = slot_of(transaction, undone.item_id, undone.person_id)
    after = before
    if not undone.repeat:
        left = before.standing - 1
        after = dataclasses.replace(before, standing=left, leased=again, last_seq=before.last_seq if left else 0)
    put(transaction, undone.item_id, undone.person_id, before=before, after=after)
    if again:
        queue.reopen(transaction, presentation_id, undone.project_id, undone.person_id, lease_s)
