"""What of a talk is no event yet: answers that wait for a choice, and a red-team talk until it is rated.

One row a presentation, replaced by every turn, so that a server that starts again goes on where it stopped. Rows of
talks that nobody has touched for KEPT_S are forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.refusals import NotFound
from assent.feedback.store import accounts, projects, queue
from assent.feedback.store.schema import talks
from assent.feedback.store.session import Session, Statement, change, insert
from assent.feedback.store.writer import Transaction

KEPT_S = 90 * 86400.0
_k = talks.c
_WHICH = _k.presentation_id == bindparam("which")
_READ = Statement(sa.select(_k.state).where(_WHICH, _k.person_id == bindparam("person")))
_CHANGE = change(talks, _WHICH, state=bindparam("what"), kept_at=bindparam("now"))
_ADD = insert(talks)
_FORGET = Statement(talks.delete().where(_k.kept_at < bindparam("before")))


def keep(transaction: Transaction, presentation_id: str, person_id: int, state: Mapping[str, Any]) -> None:
    """Hold `state`, plain JSON, as the person's talk under that presentation; NotFound where it is not theirs."""
    shown = queue.shown(transaction, presentation_id, person_id)
    if shown is None:
        raise NotFound("there is no such presentation", where="presentation_id", now="Ask for the next item.")
    accounts.check_works_in(transaction, projects.find(transaction, shown.project_id), person_id)
    text = json.dumps(state, separators=(",", ":"))  # escaped: models write characters that no column holds
    if not transaction.run(_CHANGE, which=presentation_id, what=text, now=transaction.now):
        values = {"presentation_id": presentation_id, "person_id": person_id, "state": text}
        transaction.run(_ADD, **values, kept_at=transaction.now)
    transaction.run(_FORGET, before=transaction.now - KEPT_S)


def kept(session: Session, presentation_id: str, person_id: int) -> dict[str, Any] | None:
    """What was held last; None where nothing is."""
    row = session.first(_READ, which=presentation_id, person=person_id)
    if row is None:
        return None
    state = json.loads(row[0])
    assert isinstance(state, dict)
    return state
