"""People, their passwords and the projects they work in. Of passwords only hashes are stored."""

from __future__ import annotations

import functools
import secrets
import threading
from collections.abc import Sequence
from typing import Any

import argon2
import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import Person, PersonRole, Project
from assent.feedback.refusals import Invalid, NotFound, Taken, text_of
from assent.feedback.store.names import check_name, check_readable, folded, skeletons
from assent.feedback.store.rows import person_of, to_json
from assent.feedback.store.schema import cursors, members, people, projects, sign_ins
from assent.feedback.store.session import YES, Row, Session, Statement, change, insert
from assent.feedback.store.writer import Transaction

_MOST_PASSWORD, _MOST_TOPICS = 1000, 200
_HASHER = argon2.PasswordHasher()  # argon2id with the library's current costs
_AT_ONCE = threading.BoundedSemaphore(2)  # a hash takes 64 MiB and a core

PERSON_COLUMNS = [people.c[n] for n in ("id", "name", "role", "active", "topics_declined", "created_at")]
_p = people.c
_BY_ID = Statement(sa.select(*PERSON_COLUMNS).where(_p.id == bindparam("id")))
_BY_NAME = Statement(sa.select(*PERSON_COLUMNS).where(_p.folded == bindparam("folded")))
_ALL = Statement(sa.select(*PERSON_COLUMNS).order_by(_p.id))
_HASH = Statement(sa.select(_p.password_hash, *PERSON_COLUMNS).where(_p.folded == bindparam("folded")))
_NAMES = Statement(sa.select(_p.name))
_OTHER_ADMINS = Statement(
    sa.select(_p.password_hash != sa.literal_column("''")).where(
        _p.role == str(PersonRole.ADMIN), _p.active == YES, _p.id != bindparam("id")
    )
)
_LAST = Statement(sa.select(sa.func.coalesce(sa.func.max(_p.id), 0)))
_INSERT = insert(people)
_WHICH = _p.id == bindparam("which")
_CHANGED: dict[str, Any] = {"role": bindparam("new_role"), "active": bindparam("new_active")}
_UPDATE = change(people, _WHICH, **_CHANGED, topics_declined=bindparam("topics"))
_SET_HASH = change(people, _WHICH, password_hash=bindparam("hashed"))
_FORGET_CURSORS = Statement(cursors.delete().where(cursors.c.person_id == bindparam("person")))

_m = members.c
_OF_PROJECT = _m.project_id == bindparam("project")
_MEMBERS = Statement(sa.select(*PERSON_COLUMNS).join(members, _m.person_id == _p.id).where(_OF_PROJECT).order_by(_p.id))
_WORKS = Statement(
    sa.select(_p.id)
    .outerjoin(members, sa.and_(_m.person_id == _p.id, _OF_PROJECT))
    .where(_p.id == bindparam("person"), _p.active == YES)
    .where((_p.role == str(PersonRole.ADMIN)) | ((_p.role == str(PersonRole.ANNOTATOR)) & _m.person_id.is_not(None)))
)
_DROP_MEMBERS = Statement(members.delete().where(_OF_PROJECT))
_ADD_MEMBER = insert(members)
_SIGN_OUT_EVERYWHERE = Statement(sign_ins.delete().where(sign_ins.c.person_id == bindparam("person")))
_PROJECT = Statement(sa.select(projects.c.id).where(projects.c.id == bindparam("project")))


def hash_password(password: str) -> str:
    """An argon2id hash; Invalid for a password that is empty or longer than 1,000 characters."""
    text_of(password, "password", least=1, most=_MOST_PASSWORD)
    with _AT_ONCE:
        return _HASHER.hash(password)


def password_fits(hashed: str, password: str) -> bool:
    """Whether the password has this hash; an empty hash takes as long as any other and never fits."""
    with _AT_ONCE:
        try:
            given = password[:_MOST_PASSWORD].encode(errors="replace")
            return _HASHER.verify(hashed or _nobody(), given) and bool(hashed)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


@functools.cache
def _nobody() -> str:
    return _HASHER.hash(secrets.token_urlsafe(32))


def find(session: Session, person_id: int) -> Person:
    """The person; NotFound."""
    row = session.first(_BY_ID, id=person_id)
    if row is None:
        raise NotFound(f"there is no person {person_id}", now="See the list of people.")
    return person_of(row)


def named(session: Session, name: str) -> Person | None:
    """The person of this name, whatever its case."""
    row = session.first(_BY_NAME, folded=folded(name))
    return None if row is None else person_of(row)


def with_hash(session: Session, name: str) -> tuple[str, Person | None]:
    """The password's hash and the person; an empty hash where there is none."""
    row: Row | None = session.first(_HASH, folded=folded(name))
    return ("", None) if row is None else (row[0], person_of(row[1:]))


def listed(session: Session) -> list[Person]:
    """Everybody."""
    return [person_of(row) for row in session.rows(_ALL)]


def create(transaction: Transaction, name: str, role: PersonRole, password_hash: str) -> Person:
    """Add a person; Taken if the name is. Who can sign in also needs a name that is readable and no one's double."""
    check_name(name)
    if named(transaction, name) is not None:
        raise Taken(f"there is somebody called {name!r} already", where="name", now="Choose another name.")
    if password_hash:
        check_readable(name)
        if any(skeletons(name) & skeletons(other) for (other,) in transaction.rows(_NAMES)):
            raise Taken("this name looks like somebody else's", where="name", now="Choose another name.")
    last = transaction.first(_LAST)
    assert last is not None
    values = {"id": last[0] + 1, "name": name.strip(), "folded": folded(name), "role": str(role)}
    values |= {"password_hash": password_hash, "active": 1, "topics_declined": "[]"}
    transaction.run(_INSERT, **values, created_at=transaction.now)
    return find(transaction, last[0] + 1)


def update(
    transaction: Transaction,
    person_id: int,
    *,
    role: PersonRole | None,
    active: bool | None,
    topics_declined: Sequence[str] | None,
) -> Person:
    """Change what is given; who is made inactive is signed out everywhere. Taken for the last admin's leaving."""
    before = find(transaction, person_id)
    topics = before.topics_declined if topics_declined is None else tuple(dict.fromkeys(topics_declined))
    if len(topics) > _MOST_TOPICS:
        raise Invalid(f"at most {_MOST_TOPICS} topics", where="topics_declined", now="Decline fewer.")
    for place, topic in enumerate(topics):
        text_of(topic, f"topics_declined.{place}", least=1, most=1000)
    active = before.active if active is None else active
    if is_admin(before) and not (active and (role or before.role) is PersonRole.ADMIN):
        _keep_an_admin(transaction, person_id)
    values = {"new_role": str(role or before.role), "new_active": int(active), "topics": to_json(list(topics))}
    transaction.run(_UPDATE, which=person_id, **values)
    if topics != before.topics_declined:
        transaction.run(_FORGET_CURSORS, person=person_id)
    if not active:
        transaction.run(_SIGN_OUT_EVERYWHERE, person=person_id)
    return find(transaction, person_id)


def is_admin(person: Person) -> bool:
    """Whether the person runs the studio at present."""
    return person.active and person.role is PersonRole.ADMIN


def can_be_run(session: Session) -> bool:
    """Whether there is an admin who can sign in."""
    return any(has_password for (has_password,) in session.rows(_OTHER_ADMINS, id=0))


def _keep_an_admin(transaction: Transaction, leaving_id: int) -> None:
    """Taken if nobody, or nobody who can sign in, would be left to run the studio."""
    others = [bool(has_password) for (has_password,) in transaction.rows(_OTHER_ADMINS, id=leaving_id)]
    if not others or (can_be_run(transaction) and not any(others)):
        raise Taken("the last admin cannot go", where="role", now="Make somebody else an admin first.")


def set_password_hash(transaction: Transaction, person_id: int, password_hash: str) -> None:
    """A new password signs out everywhere."""
    find(transaction, person_id)
    transaction.run(_SET_HASH, which=person_id, hashed=password_hash)
    transaction.run(_SIGN_OUT_EVERYWHERE, person=person_id)


def members_of(session: Session, project_id: int) -> list[Person]:
    """Who works in a project."""
    return [person_of(row) for row in session.rows(_MEMBERS, project=project_id)]


def add_members(transaction: Transaction, person_id: int, project_ids: Sequence[int]) -> None:
    """Let somebody work in these projects too."""
    transaction.run_many(_ADD_MEMBER, [{"project_id": project, "person_id": person_id} for project in project_ids])


def set_members(transaction: Transaction, project_id: int, person_ids: Sequence[int]) -> None:
    """These people and nobody else."""
    need_project(transaction, project_id)
    for person_id in person_ids:
        find(transaction, person_id)
    transaction.run(_DROP_MEMBERS, project=project_id)
    transaction.run_many(_ADD_MEMBER, [{"project_id": project_id, "person_id": p} for p in sorted(set(person_ids))])


def works_in(session: Session, project: Project, person_id: int) -> bool:
    """Whether the project asks this person: not archived, and they are active, an admin or one of its annotators."""
    return not project.archived and session.first(_WORKS, project=project.id, person=person_id) is not None


def check_works_in(session: Session, project: Project, person_id: int) -> None:
    """Raises NotFound for whom the project does not ask, or no longer."""
    if not works_in(session, project, person_id):
        raise NotFound("this project takes no answers from you now", now="Ask an admin whether you are still in it.")


def need_project(session: Session, project_id: int) -> None:
    """NotFound for a project that is not there."""
    if session.first(_PROJECT, project=project_id) is None:
        raise NotFound(f"there is no project {project_id}", now="See the list of projects.")
