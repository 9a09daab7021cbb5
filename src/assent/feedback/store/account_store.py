"""The half of the store that knows people: their accounts, sign-ins and invitations."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from assent.errors import StoreError
from assent.feedback.records import Person, PersonRole
from assent.feedback.store import accounts, queue, sign_ins
from assent.feedback.store.engine import Database
from assent.feedback.store.session import Session
from assent.feedback.store.sign_ins import Invitation, SignIn
from assent.feedback.store.writer import Writer

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class AccountStore:
    """People and how they get in."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """For `FeedbackStore.open`."""
        self._database, self._clock = database, clock
        self._writer = None if database.read_only else Writer(database, clock, queue.expire)

    @property
    def _write(self) -> Writer:
        if self._writer is None:
            now = "Open it without read_only."
            raise StoreError("the store is open for reading only", where=self._database.place, now=now)
        return self._writer

    def _read(
        self,
        read: Callable[Concatenate[Session, Arguments], Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        with self._database.read() as session:
            return read(session, *arguments, **named)

    def create_person(self, name: str, role: PersonRole, password: str | None) -> Person:
        """A new account; without a password nobody can sign in to it. Taken if the name is, whatever its case."""
        hashed = "" if password is None else accounts.hash_password(password)
        return self._write.do(lambda t: accounts.create(t, name, role, hashed), again=False)

    def person(self, person_id: int) -> Person:
        """The person; NotFound."""
        return self._read(accounts.find, person_id)

    def person_named(self, name: str) -> Person | None:
        """The person of this name, whatever its case."""
        return self._read(accounts.named, name)

    def people(self) -> list[Person]:
        """Everybody, by id."""
        return self._read(accounts.listed)

    def update_person(
        self,
        person_id: int,
        *,
        role: PersonRole | None = None,
        active: bool | None = None,
        topics_declined: Sequence[str] | None = None,
    ) -> Person:
        """Change what is given. Who becomes inactive is signed out everywhere; Taken where it is the last admin."""
        change = {"role": role, "active": active, "topics_declined": topics_declined}
        return self._write.do(lambda t: accounts.update(t, person_id, **change))  # type: ignore[arg-type]

    def can_be_run(self) -> bool:
        """Whether there is an admin who can sign in."""
        return self._read(accounts.can_be_run)

    def set_password(self, person_id: int, password: str) -> None:
        """A new password; signs the person out everywhere."""
        hashed = accounts.hash_password(password)
        self._write.do(lambda t: accounts.set_password_hash(t, person_id, hashed))

    def check_password(self, name: str, password: str) -> Person | None:
        """The active person with this name and password. Takes as long for unknown names; two at most at a time."""
        with self._database.read() as session:
            hashed, person = accounts.with_hash(session, name)
        fits = accounts.password_fits(hashed, password)
        return person if fits and person is not None and person.active else None

    def set_members(self, project_id: int, person_ids: Sequence[int]) -> None:
        """Exactly these people work in the project."""
        self._write.do(lambda t: accounts.set_members(t, project_id, list(person_ids)))

    def members(self, project_id: int) -> list[Person]:
        """Who works in the project."""
        return self._read(accounts.members_of, project_id)

    def sign_in(self, person_id: int, *, lifetime_s: float) -> SignIn:
        """A new sign-in. Whoever calls has checked the password."""
        token = secrets.token_urlsafe(32)
        return self._write.do(lambda t: sign_ins.sign_in(t, person_id, token, lifetime_s), again=False)

    def sign_in_of(self, token: str) -> SignIn | None:
        """Whose token this is; None if unknown, expired, or the person is inactive."""
        return self._read(sign_ins.sign_in_of, token, self._clock())

    def sign_out(self, token: str) -> None:
        """End the sign-in."""
        self._write.do(lambda t: sign_ins.sign_out(t, token))

    def invite(self, role: PersonRole, project_ids: Sequence[int], *, lifetime_s: float = 7 * 86400) -> str:
        """A token that makes one account of this role, member of these projects."""
        token = secrets.token_urlsafe(32)
        ids = list(project_ids)
        self._write.do(lambda t: sign_ins.invite(t, token, role, ids, lifetime_s), again=False)
        return token

    def invitation(self, token: str) -> Invitation | None:
        """The invitation; None if unknown, used or expired."""
        return self._read(sign_ins.invitation, token, self._clock())

    def accept_invitation(self, token: str, name: str, password: str) -> Person:
        """Make the account; of several at once with one token, one succeeds."""
        if self.invitation(token) is None:
            raise sign_ins.no_invitation()
        hashed = accounts.hash_password(password)
        return self._write.do(lambda t: sign_ins.accept(t, token, name, hashed), again=False)
