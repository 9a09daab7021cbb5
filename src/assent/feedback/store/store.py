"""The one interface of the store of annotations. Safe to use from many threads; nothing acknowledged is lost.

Every method waits for its result, except `submit` and `undo`, whose futures resolve when the event is on the disk.
Refusals are StoreErrors of `assent.feedback.refusals`: NotFound, Taken, Invalid (where: the field) and Unavailable.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from assent.feedback.records import (
    Answer,
    AnsweredItem,
    Event,
    Guideline,
    Item,
    NewItem,
    Presentation,
    Project,
    ProjectSettings,
)
from assent.feedback.refusals import Unavailable
from assent.feedback.store import (
    adaptive_overlap,
    answers,
    migrating,
    pending_talks,
    project_items,
    projects,
    queue,
    reading,
)
from assent.feedback.store.account_store import AccountStore
from assent.feedback.store.chain import verify
from assent.feedback.store.engine import Connect, Database, parse_url
from assent.feedback.store.progress import Progress, labels_left, progress

_ITEMS_AT_ONCE = 2000


class FeedbackStore(AccountStore):
    """Projects, items, people, leases and events in one database."""

    @staticmethod
    def open(
        url: str, *, clock: Callable[[], float] = time.time, read_only: bool = False, connect: Connect | None = None
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
        return self._read(projects.listed, person_id)

    def project(self, project_id: int) -> Project:
        """The project; NotFound."""
        return self._read(projects.find, project_id)

    def project_named(self, name: str) -> Project | None:
        """The project of this very name."""
        return self._read(projects.named, name)

    # items

    def add_items(self, project_id: int, items: Iterable[NewItem]) -> tuple[int, int]:
        """(added, already there by key). Written in groups of 2,000: after a failure, add again by key."""
        added = known = 0
        stream = iter(items)
        while group := list(itertools.islice(stream, _ITEMS_AT_ONCE)):
            with_keys = all(item.key for item in group)
            more = self._write.do(partial(project_items.add_items, project_id=project_id, new=group), again=with_keys)
            added, known = added + more[0], known + more[1]
        return added, known

    def set_priorities(
        self, project_id: int, priority: Mapping[int, float], *, overlap: Mapping[int, int] | None = None
    ) -> None:
        """Reorder the queue, and change how many people are asked, all or nothing."""
        self._write.do(lambda t: project_items.set_priorities(t, project_id, dict(priority), dict(overlap or {})))

    def set_predictions(self, project_id: int, predicted: Mapping[int, Sequence[float]]) -> None:
        """What a reward model says of items: a score for each candidate, in logits, all or nothing.

        With `adaptive_overlap` an item whose labels contradict it is asked again, and a settled one no more.
        """
        self._write.do(lambda t: adaptive_overlap.set_predictions(t, project_id, dict(predicted)))

    def withdraw_items(self, project_id: int, item_ids: Sequence[int]) -> None:
        """Ask nobody else about these; what was answered stays, who has one open may answer it."""
        self._write.do(lambda t: project_items.withdraw_items(t, project_id, list(item_ids)))

    def item(self, item_id: int) -> Item:
        """The item; NotFound. Its `new.overlap` and `new.priority` are the present ones."""
        return self._read(queue.item, item_id)

    def items(self, project_id: int, *, after: int = 0, limit: int = 1000) -> list[Item]:
        """Items by id, those with a greater id than `after`."""
        return self._read(reading.items_page, project_id, after=after, limit=limit)

    # guidelines

    def add_guideline(self, project_id: int, text: str, author: str) -> Guideline:
        """A new version of the guidelines."""
        return self._write.do(lambda t: projects.add_guideline(t, project_id, text, author), again=False)

    def guideline(self, project_id: int, version: int | None = None) -> Guideline | None:
        """One version, by default the newest."""
        return self._read(projects.guideline, project_id, version)

    # asking

    def lease(self, project_id: int, person_id: int, *, count: int = 1) -> list[Presentation]:
        """What the person answers next: what they have open, in the order they got it, then new items.

        At most `count` in all, fewer when the queue has no more for them. An undone item comes first.
        """
        return self._write.do(lambda t: queue.lease(t, project_id, person_id, count))

    def presentation(self, presentation_id: str, person_id: int) -> Presentation | None:
        """The presentation if it is this person's, also when its lease has ended."""
        return self._read(queue.presentation, presentation_id, person_id)

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
        return self._read(pending_talks.kept, presentation_id, person_id)

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
        return self._read(
            reading.events_page,
            project_id=project_id,
            person_id=person_id,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )

    def shown_as(self, project_id: int, person_id: int, *, limit: int = 1000) -> dict[int, str]:
        """The presentations that a person's latest standing answers were given to, by the answer's number."""
        return self._read(reading.shown_as, project_id, person_id, limit=limit)

    def answered_items(self, project_id: int, *, after_item: int = 0, limit: int = 1000) -> list[AnsweredItem]:
        """Items with standing answers (silent repeats, flags and skips are among them), by item id."""
        return self._read(reading.answered_page, project_id, after_item=after_item, limit=limit)

    def progress(self, project_id: int) -> Progress:
        """How far the project is, from counters."""
        return self._read(progress, project_id, self._clock())

    def labels_left(self, project_id: int) -> int:
        """How many labels the project still wants, from anybody; NotFound."""
        return self._read(labels_left, project_id)

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
