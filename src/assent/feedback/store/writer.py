"""The one thread that writes: whatever waits is done in one transaction (group commit) and then answered.

An operation is a function of a `Transaction`. One that refuses before it has written anything fails alone. If one
refuses later, or the database fails, the whole group is taken back and each operation is tried again by itself, so
that only the guilty one fails. Futures resolve after the commit: what was answered is on the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection

from assent.feedback.records import Project
from assent.feedback.refusals import Unavailable
from assent.feedback.store.engine import Database
from assent.feedback.store.schema import chain, projects, tallies
from assent.feedback.store.session import Session, Statement, change

Result = TypeVar("Result")

MOST_AT_ONCE = 256
_PATIENCE_S, _PAUSE_S = 20.0, 0.2  # for a PostgreSQL server that restarts
_log = logging.getLogger(__name__)

_HEAD = Statement(sa.select(chain.c.seq, chain.c.sha256).where(chain.c.id == 1))
_SET_HEAD = change(chain, chain.c.id == 1, seq=sa.bindparam("seq"), sha256=sa.bindparam("sha256"))
PROJECT_COUNTERS = ("asked", "wanted", "given", "finished", "answers", "skipped", "flagged")
_MORE_OF_PROJECT = {name: projects.c[name] + sa.bindparam(f"more_{name}") for name in PROJECT_COUNTERS}
_COUNT_PROJECT = change(projects, projects.c.id == sa.bindparam("which"), **_MORE_OF_PROJECT)
_PERSON_COUNTERS = ("answers", "skipped", "flagged", "total_ms")
_OF_PERSON = (tallies.c.project_id == sa.bindparam("project"), tallies.c.person_id == sa.bindparam("person"))
_MORE_OF_PERSON = {name: tallies.c[name] + sa.bindparam(f"more_{name}") for name in _PERSON_COUNTERS}
_COUNT_PERSON = change(tallies, *_OF_PERSON, **_MORE_OF_PERSON, last_at=sa.bindparam("at"))
_FIRST_COUNT = Statement(
    tallies.insert().values(
        {name: sa.bindparam(f"more_{name}") for name in _PERSON_COUNTERS}
        | {"project_id": sa.bindparam("project"), "person_id": sa.bindparam("person")}
        | {"first_at": sa.bindparam("at"), "last_at": sa.bindparam("at")}
    )
)


class Transaction(Session):
    """A writing session with the time, the head of the chain and counters that are written once at its end."""

    def __init__(self, session: Session, now: float) -> None:
        self._cursor, self.dialect, self._careful = session._cursor, session.dialect, session._careful
        self.writes, self.now = 0, now
        self.projects: dict[int, Project] = {}  # as read in this transaction
        self._head: tuple[int, str] | None = None
        self._moved = False
        self._project_counts: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._person_counts: dict[tuple[int, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))

    @property
    def head(self) -> tuple[int, str]:
        """The number and the hash of the newest event."""
        if self._head is None:
            row = self.first(_HEAD)
            assert row is not None
            self._head = (row[0], row[1])
        return self._head

    @property
    def newest(self) -> tuple[int, str] | None:
        """The same, if it was asked for or moved in this transaction."""
        return self._head

    def move_head(self, seq: int, sha256: str) -> None:
        """Say that an event was added."""
        self._head, self._moved = (seq, sha256), True

    def count(self, project_id: int, **more: int) -> None:
        """Add to the counters of a project."""
        self.writes += 1
        for name, value in more.items():
            self._project_counts[project_id][name] += value

    def count_person(self, project_id: int, person_id: int, **more: int) -> None:
        """Add to the counters of a person in a project."""
        self.writes += 1
        for name, value in more.items():
            self._person_counts[project_id, person_id][name] += value

    def finish(self) -> None:
        """Write what was counted since the last time."""
        for project_id, more in self._project_counts.items():
            self.run(_COUNT_PROJECT, which=project_id, **{f"more_{n}": more.get(n, 0) for n in PROJECT_COUNTERS})
        for (project_id, person_id), more in self._person_counts.items():
            values: dict[str, Any] = {f"more_{name}": more.get(name, 0) for name in _PERSON_COUNTERS}
            values |= {"project": project_id, "person": person_id, "at": self.now}
            if not self.run(_COUNT_PERSON, **values):
                self.run(_FIRST_COUNT, **values)
        if self._moved:
            self.run(_SET_HEAD, seq=self.head[0], sha256=self.head[1])
        self._project_counts.clear()
        self._person_counts.clear()
        self._moved = False


Operation = Callable[[Transaction], Any]


class _Job:
    """An operation, its future, and how it went this time. As a context it keeps what the operation raises."""

    def __init__(self, operation: Operation, *, again: bool) -> None:
        self.operation, self.again = operation, again
        self.future: Future[Any] = Future()
        self.result: Any = None
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        self.result = self.error = None

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        self.error = error  # a bug in one operation must not end the thread that writes for all
        return isinstance(error, Exception)

    def answer(self) -> None:
        """Tell whoever waits."""
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Runs operations in the order in which they come. `before_each_group` is run first in every transaction."""

    def __init__(self, database: Database, clock: Callable[[], float], before_each_group: Operation) -> None:
        self._database, self._clock, self._before = database, clock, before_each_group
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._connection: PoolProxiedConnection | None = None
        self._committing, self._failing, self._patience_s = False, False, _PATIENCE_S
        self._closed = threading.Event()
        self._door = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="assent-store-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Callable[[Transaction], Result], *, again: bool = True) -> Future[Result]:
        """Queue `operation`. `again`: it may be run a second time where nobody knows whether the first was kept."""
        job = _Job(operation, again=again)
        with self._door:
            if self._closed.is_set():
                raise Unavailable("the store is closed", where=self._database.place, now="Open it again.")
            self._queue.put(job)
        return job.future

    def do(self, operation: Callable[[Transaction], Result], *, again: bool = True) -> Result:
        """Run `operation` and wait until it is on the disk."""
        return self.submit(operation, again=again).result()

    def check(self, patience_s: float) -> None:
        """Raises Unavailable unless something can be written within that time."""
        trial = self.submit(lambda t: t.run(_SET_HEAD, seq=t.head[0], sha256=t.head[1]))
        try:
            trial.result(timeout=patience_s)
        except TimeoutError:
            trial.cancel()
            now = "Check its disk or its server."
            raise Unavailable("the store does not answer", where=self._database.place, now=now) from None

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._door:
            if not self._closed.is_set():
                self._closed.set()
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            jobs = [self._queue.get()]
            while len(jobs) < MOST_AT_ONCE:
                try:
                    jobs.append(self._queue.get_nowait())
                except Empty:
                    break
            more = None not in jobs
            live = [job for job in jobs if job is not None and job.future.set_running_or_notify_cancel()]
            if live:
                self._write(live)
                for job in live:
                    job.answer()
        self._disconnect()

    def _write(self, jobs: list[_Job]) -> None:
        """Leave every job with its result or its error."""
        alone = False
        started = time.monotonic()
        while jobs:
            try:
                alone = self._attempt(jobs)
                self._patience_s = _PATIENCE_S
                if self._failing:
                    _log.warning("the store writes again")
                self._failing = False
                break
            except Unavailable as refusal:  # the file, not the database, is the matter
                self._refuse(jobs, refusal)
                break
            except (self._database.Error, SQLAlchemyError) as error:
                lost, committing = self._database.lost(self._connection), self._committing
                self._disconnect()
                if not lost and len(jobs) > 1:
                    alone = True
                    break
                jobs = self._refused(jobs, error, lost=lost, committing=committing, started=started)
        if alone:
            for job in jobs:
                self._write([job])

    def _refused(
        self, jobs: list[_Job], error: BaseException, *, lost: bool, committing: bool, started: float
    ) -> list[_Job]:
        """The jobs that are worth another try now; the others get the refusal."""
        refusal = self._database.refusal(error)
        wait = lost and time.monotonic() - started < self._patience_s
        if lost and not wait:
            self._patience_s = 0.0  # until it is back: fail at once
        again = [job for job in jobs if wait and (job.again or not committing)]
        self._refuse([job for job in jobs if job not in again], refusal)
        if again:
            time.sleep(_PAUSE_S)
        return again

    def _refuse(self, jobs: list[_Job], refusal: Unavailable) -> None:
        if not self._failing:
            _log.warning("the store could not write: %s", refusal)
        self._failing = True
        for job in jobs:
            job.error = refusal

    def _attempt(self, jobs: list[_Job]) -> bool:
        """One transaction. Whether each job has to be done by itself instead; raises the database's errors, and
        Unavailable where its file is not as it was left."""
        file = self._database.file
        self._committing = False
        if file is not None:
            file.check()
        connection = self._connection = self._connection or self._database.writing.raw_connection()
        transaction = Transaction(self._database.begin(connection), self._clock())
        self._before(transaction)
        for job in jobs:
            before = transaction.writes
            with job:
                job.result = job.operation(transaction)
            if isinstance(job.error, self._database.Error):
                raise job.error
            if job.error is not None and transaction.writes > before:
                connection.rollback()
                return len(jobs) > 1
        transaction.finish()
        self._committing = True
        connection.commit()
        self._database.head = transaction.newest or self._database.head
        if file is not None:
            file.settle(transaction.now)
        return False

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            if self._database.file is not None:
                self._database.file.let_go()
