"""Sign-ins and invitations. Of their tokens only hashes are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.errors import StoreError
from assent.feedback.records import Person, PersonRole
from assent.feedback.refusals import NotFound
from assent.feedback.store import accounts
from assent.feedback.store.rows import to_json
from assent.feedback.store.schema import invitations, people, sign_ins
from assent.feedback.store.session import NO, YES, Session, Statement, change, insert
from assent.feedback.store.writer import Transaction

_s = sign_ins.c
_ADD_SIGN_IN = insert(sign_ins)
_SIGN_IN = Statement(
    sa.select(_s.person_id, _s.expires_at)
    .join(people, people.c.id == _s.person_id)
    .where(_s.token_sha256 == bindparam("hashed"), people.c.active == YES)
)
_SIGN_OUT = Statement(sign_ins.delete().where(_s.token_sha256 == bindparam("hashed")))
_DROP_EXPIRED = Statement(sign_ins.delete().where(_s.expires_at <= bindparam("now")))

_v = invitations.c
_ADD_INVITATION = insert(invitations)
_HASHED = _v.token_sha256 == bindparam("hashed")
_INVITATION = Statement(sa.select(_v.role, _v.project_ids, _v.expires_at).where(_HASHED, _v.used == NO))
_USE_INVITATION = change(invitations, _HASHED, used=YES)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """Somebody is signed in: the token is their cookie, `csrf` goes with every request that changes something."""

    token: str
    csrf: str
    person_id: int
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Whoever holds its token may make one account."""

    role: PersonRole
    project_ids: tuple[int, ...]
    expires_at: float


def token_hash(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(b"token:" + token.encode(errors="replace")).hexdigest()


def _csrf(token: str) -> str:
    return hashlib.sha256(b"csrf:" + token.encode(errors="replace")).hexdigest()


def sign_in(transaction: Transaction, person_id: int, token: str, lifetime_s: float) -> SignIn:
    """Keep the token's hash for `lifetime_s` seconds; NotFound for somebody inactive."""
    if not accounts.find(transaction, person_id).active:
        raise NotFound("the account is not active", now="Ask whoever runs the studio.")
    expires_at = transaction.now + lifetime_s
    transaction.run(_DROP_EXPIRED, now=transaction.now)
    values = {"token_sha256": token_hash(token), "person_id": person_id, "created_at": transaction.now}
    transaction.run(_ADD_SIGN_IN, **values, expires_at=expires_at)
    return SignIn(token=token, csrf=_csrf(token), person_id=person_id, expires_at=expires_at)


def sign_in_of(session: Session, token: str, now: float) -> SignIn | None:
    """Who holds this token, unless it is unknown or has expired, or the person is inactive."""
    row = session.first(_SIGN_IN, hashed=token_hash(token))
    if row is None or row[1] <= now:
        return None
    return SignIn(token=token, csrf=_csrf(token), person_id=row[0], expires_at=row[1])


def sign_out(transaction: Transaction, token: str) -> None:
    """Forget the token."""
    transaction.run(_SIGN_OUT, hashed=token_hash(token))


def invite(
    transaction: Transaction, token: str, role: PersonRole, project_ids: Sequence[int], lifetime_s: float
) -> None:
    """Keep the hash of an invitation's token."""
    for project_id in project_ids:
        accounts.need_project(transaction, project_id)
    values = {"token_sha256": token_hash(token), "role": str(role), "project_ids": to_json(sorted(set(project_ids)))}
    transaction.run(_ADD_INVITATION, **values, expires_at=transaction.now + lifetime_s, used=0)


def invitation(session: Session, token: str, now: float) -> Invitation | None:
    """The invitation, unless it is unknown, used or expired."""
    row = session.first(_INVITATION, hashed=token_hash(token))
    if row is None or row[2] <= now:
        return None
    return Invitation(role=PersonRole(row[0]), project_ids=tuple(json.loads(row[1])), expires_at=row[2])


def accept(transaction: Transaction, token: str, name: str, password_hash: str) -> Person:
    """Make the account and use the invitation up, both or neither."""
    found = invitation(transaction, token, transaction.now)
    if found is None:
        raise no_invitation()
    person = accounts.create(transaction, name, found.role, password_hash)
    accounts.add_members(transaction, person.id, found.project_ids)
    transaction.run(_USE_INVITATION, hashed=token_hash(token))
    return person


def no_invitation() -> StoreError:
    """The refusal of a token that is unknown, used or expired."""
    return NotFound("the invitation is unknown, was used, or has expired", now="Ask for a new one.")
