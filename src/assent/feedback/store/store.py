"""The one interface of kept judgement. Safe to use from many threads; nothing acknowledged is lost.

Every method waits for its result, except `submit` and `undo`, whose futures resolve when the event is on the disk.
Refusals are StoreErrors of `assent.feedback.refusals`: NotFound, Taken, Invalid (where: the field) and Unavailable.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from assent.errors import StoreError
from assent.feedback.records import (
    Answer,
    AnsweredItem,
    Event,
    Guideline,
    Item,
    NewItem,
    Person,
    PersonRole,
    Presentation,
    Project,
    ProjectSettings,
)
from assent.feedback.refusals import Unavailable
from assent.feedback.store import (
    accounts,
    adaptive_overlap,
    answers,
    migrating,
    pending_talks,
    projects,
    queue,
    reading,
)
from assent.feedback.store.accounts import Invitation, SignIn
from assent.feedback.store.chain import verify
from assent.feedback.store.engine import Connect, Database, parse_url
from assent.feedback.store.progress import Progress, labels_left, progress
from assent.feedback.store.writer import Writer

_ITEMS_AT_ONCE = 2000


class FeedbackStore:
    """Projects, items, people, leases and events in one database."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """For `open`."""
        self._database, self._clock = database, clock
        self._writer = None if database.read_only else Writer(database, clock, queue.expire)

    @staticmethod
    def open(
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
        connect: Connect | None = None,
    ) -> FeedbackStore:
        """Open, and where needed make or migrate, the store at `sqlite:///PATH`, a bare path or `postgresql://...`.

        One process at a time may have a SQLite store open for writing; others may with `read_only`. `connect`
        replaces how SQLite is connected to. Raises StoreError.
        """
        database = Database(parse_url(url), read_only=read_only, connect=connect)
        try:
            if read_only:
                migrating.check(database)
            else:
                migrating.migrate(database)
                database.watch()
        except BaseException:
            database.close()
            raise
        return FeedbackStore(database, clock)

    def close(self) -> None:
        """Finish what waits to be written and let go of the database."""
        if self._writer is not None:
            self._writer.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def sibling_path(self, name: str) -> Path | None:
        """Where a file that belongs to the store may lie: beside its own; None where the store is no file."""
        path = self._database.path
        return None if path is None else path.with_name(f"{path.name}.{name}")

    @property
    def _write(self) -> Writer:
        if self._writer is None:
            now = "Open it without read_only."
            raise StoreError("the store is open for reading only", where=self._database.place, now=now)
        return self._writer

    # projects

    def create_project(self, name: str, settings: ProjectSettings) -> Project:
        """A new project; Taken if its name is."""
        return self._write.do(lambda t: projects.create(t, name, settings), again=False)

    def update_project(self, project_id: int, settings: ProjectSettings) -> Project:
        """New settings. Another overlap also holds for the items that came without their own; the mode stays."""
        return self._write.do(lambda t: adaptive_overlap.update_project(t, project_id, settings))

    def archive_project(self, project_id: int, archived: bool = True) -> Project:
        """An archived project asks nobody."""
        return self._write.do(lambda t: projects.archive(t, project_id, archived))

    def projects(self, *, person_id: int | None = None) -> list[Project]:
        """All projects, or those a person is a member of."""
        with self._database.read() as session:
            return projects.listed(session, person_id)

    def project(self, project_id: int) -> Project:
        """The project; NotFound."""
        with self._database.read() as session:
            return projects.find(session, project_id)

    def project_named(self, name: str) -> Project | None:
        """The project of this very name."""
        with self._database.read() as session:
            return projects.named(session, name)

    # items

    def add_items(self, project_id: int, items: Iterable[NewItem]) -> tuple[int, int]:
        """(added, already there by key). Written in groups of 2,000: after a failure, add again by key."""
        added = known = 0
        stream = iter(items)
        while group := list(itertools.islice(stream, _ITEMS_AT_ONCE)):
            with_keys = all(item.key for item in group)
            more = self._write.do(partial(projects.add_items, project_id=project_id, new=group), again=with_keys)
            added, known = added + more[0], known + more[1]
        return added, known

    def set_priorities(
        self, project_id: int, priority: Mapping[int, float], *, overlap: Mapping[int, int] | None = None
    ) -> None:
        """Reorder the queue, and change how many people are asked, all or nothing."""
        self._write.do(lambda t: projects.set_priorities(t, project_id, dict(priority), dict(overlap or {})))

    def set_predictions(self, project_id: int, predicted: Mapping[int, Sequence[float]]) -> None:
        """What a reward model says of items: a score for each candidate, in logits, all or nothing.

        With `adaptive_overlap` an item that people judged against it is asked again, and a settled one no more.
        """
        self._write.do(lambda t: adaptive_overlap.set_predictions(t, project_id, dict(predicted)))

    def withdraw_items(self, project_id: int, item_ids: Sequence[int]) -> None:
        """Ask nobody else about these; what was answered stays, who has one open may answer it."""
        self._write.do(lambda t: projects.withdraw_items(t, project_id, list(item_ids)))

    def item(self, item_id: int) -> Item:
        """The item; NotFound. Its `new.overlap` and `new.priority` are the present ones."""
        with self._database.read() as session:
            return queue.item(session, item_id)

    def items(self, project_id: int, *, after: int = 0, limit: int = 1000) -> list[Item]:
        """Items by id, those with a greater id than `after`."""
        with self._database.read() as session:
            return reading.items_page(session, project_id, after=after, limit=limit)

    # guidelines

    def add_guideline(self, project_id: int, text: str, author: str) -> Guideline:
        """A new version of the guidelines."""
        return self._write.do(lambda t: projects.add_guideline(t, project_id, text, author), again=False)

    def guideline(self, project_id: int, version: int | None = None) -> Guideline | None:
        """One version, by default the newest."""
        with self._database.read() as session:
            return projects.guideline(session, project_id, version)

    # people

    def create_person(self, name: str, role: PersonRole, password: str | None) -> Person:
        """A new account; without a password nobody can sign in to it. Taken if the name is, whatever its case."""
        hashed = "" if password is None else accounts.hash_password(password)
        return self._write.do(lambda t: accounts.create(t, name, role, hashed), again=False)

    def person(self, person_id: int) -> Person:
        """The person; NotFound."""
        with self._database.read() as session:
            return accounts.find(session, person_id)

    def person_named(self, name: str) -> Person | None:
        """The person of this name, whatever its case."""
        with self._database.read() as session:
            return accounts.named(session, name)

    def people(self) -> list[Person]:
        """Everybody, by id."""
        with self._database.read() as session:
            return accounts.listed(session)

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
        with self._database.read() as session:
            return accounts.can_be_run(session)

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
        with self._database.read() as session:
            return accounts.members_of(session, project_id)

    # sign-ins and invitations

    def sign_in(self, person_id: int, *, lifetime_s: float) -> SignIn:
        """A new sign-in. Whoever calls has checked the password."""
        token = secrets.token_urlsafe(32)
        return self._write.do(lambda t: accounts.sign_in(t, person_id, token, lifetime_s), again=False)

    def sign_in_of(self, token: str) -> SignIn | None:
        """Whose token this is; None if unknown, expired, or the person is inactive."""
        with self._database.read() as session:
            return accounts.sign_in_of(session, token, self._clock())

    def sign_out(self, token: str) -> None:
        """End the sign-in."""
        self._write.do(lambda t: accounts.sign_out(t, token))

    def invite(self, role: PersonRole, project_ids: Sequence[int], *, lifetime_s: float = 7 * 86400) -> str:
        """A token that makes one account of this role, member of these projects."""
        token = secrets.token_urlsafe(32)
        ids = list(project_ids)
        self._write.do(lambda t: accounts.invite(t, token, role, ids, lifetime_s), again=False)
        return token

    def invitation(self, token: str) -> Invitation | None:
        """The invitation; None if unknown, used or expired."""
        with self._database.read() as session:
            return accounts.invitation(session, token, self._clock())

    def accept_invitation(self, token: str, name: str, password: str) -> Person:
        """Make the account; of several at once with one token, one succeeds."""
        if self.invitation(token) is None:
            raise accounts.no_invitation()
        hashed = accounts.hash_password(password)
        return self._write.do(lambda t: accounts.accept(t, token, name, hashed), again=False)

    # asking

    def lease(self, project_id: int, person_id: int, *, count: int = 1) -> list[Presentation]:
        """What the person judges next: what they have open, in the order they got it, then new items.

        At most `count` in all, fewer when the queue has no more for them. An undone item comes first.
        """
        return self._write.do(lambda t: queue.lease(t, project_id, person_id, count))

    def presentation(self, presentation_id: str, person_id: int) -> Presentation | None:
        """The presentation if it is this person's, also when its lease has ended."""
        with self._database.read() as session:
            return queue.presentation(session, presentation_id, person_id)

    def renew(self, presentation_id: str, person_id: int) -> bool:
        """Start the lease again; False if it has ended."""
        return self._write.do(lambda t: queue.renew(t, presentation_id, person_id))

    def release(self, presentation_id: str, person_id: int) -> None:
        """Give the lease back."""
        self._write.do(lambda t: queue.release(t, presentation_id, person_id))

    # answering

    def submit(self, person_id: int, answer: Answer) -> Future[Event]:
        """Keep an answer. The same answer with the same key again gives the first event: a new answer needs a new key,
        also when an undone item comes back as the same presentation.

        Fails with NotFound (no such presentation, or the project no longer asks this person), Invalid (`where` is the
        field) or Taken: the lease had ended and others have filled the item, the person has answered it already, or
        the key stands for something else.
        """
        return self._write.submit(lambda t: answers.submit(t, person_id, answer))

    def undo(self, person_id: int, event_seq: int, key: str) -> Future[Event]:
        """Take back an own standing answer, of any age; the item comes back to this person first."""
        return self._write.submit(lambda t: answers.undo(t, person_id, event_seq, key))

    # talking

    def save_pending_talk(self, presentation_id: str, person_id: int, state: Mapping[str, Any]) -> None:
        """Hold what of the person's talk is no event yet, in place of what was held before; NotFound if not theirs."""
        self._write.do(lambda t: pending_talks.keep(t, presentation_id, person_id, state))

    def pending_talk(self, presentation_id: str, person_id: int) -> dict[str, Any] | None:
        """What `save_pending_talk` holds; None where there is nothing."""
        with self._database.read() as session:
            return pending_talks.kept(session, presentation_id, person_id)

    # reading

    def events(
        self,
        project_id: int | None = None,
        *,
        after: int = 0,
        limit: int = 1000,
        person_id: int | None = None,
        newest_first: bool = False,
    ) -> list[Event]:
        """Events with a greater number than `after`, upwards; with `newest_first` the latest ones, downwards."""
        with self._database.read() as session:
            return reading.events_page(
                session,
                project_id=project_id,
                person_id=person_id,
                after=after,
                limit=limit,
                newest_first=newest_first,
            )

    def shown_as(self, project_id: int, person_id: int, *, limit: int = 1000) -> dict[int, str]:
        """The presentations that a person's latest standing answers were given to, by the answer's number."""
        with self._database.read() as session:
            return reading.shown_as(session, project_id, person_id, limit=limit)

    def answered_items(self, project_id: int, *, after_item: int = 0, limit: int = 1000) -> list[AnsweredItem]:
        """Items with standing answers (silent repeats, flags and skips are among them), by item id."""
        with self._database.read() as session:
            return reading.answered_page(session, project_id, after_item=after_item, limit=limit)

    def progress(self, project_id: int) -> Progress:
        """How far the project is, from counters."""
        with self._database.read() as session:
            return progress(session, project_id, self._clock())

    def labels_left(self, project_id: int) -> int:
        """How many labels the project still wants, from anybody; NotFound."""
        with self._database.read() as session:
            return labels_left(session, project_id)

    def verify_chain(self) -> int:
        """The number of events, all as they were written; StoreError names the first broken one."""
        with self._database.read() as session:
            last_seq, last_sha256 = reading.head(session)
            events = reading.every_event(session, last_seq)
            return verify(events, last_seq=last_seq, last_sha256=last_sha256)

    def check(self, patience_s: float = 5.0) -> None:
        """Raises Unavailable unless an answer could be kept now: it writes, and looks at the disk and the file."""
        self._write.check(patience_s)
        if self._database.file is not None:
            self._database.file.check_room()

    @property
    def place(self) -> str:
        """The store's file, or its URL without a password."""
        return self._database.place

    @property
    def is_new(self) -> bool:
        """Whether `open` made this store."""
        return self._database.new

    def parting(self) -> str:
        """What is true of everything that was acknowledged, before the store is closed. Saves a copy of a lost file."""
        try:
            self._write.do(lambda _: None)
        except Unavailable as trouble:
            return self._database.saved_in_spite_of(trouble, self._clock())
        return "everything that was acknowledged is saved"

    def backup(self, path: Path | str) -> None:
        """A consistent copy of a SQLite store at `path`, while others write; StoreError if the file exists."""
        self._database.backup(path)
