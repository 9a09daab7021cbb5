"""The database behind the store: SQLite in one file, or PostgreSQL by URL. Connections, locks, statements, errors.

SQLite runs with a write-ahead log and `synchronous=FULL`: a commit that returned survives a power cut. Builds before
3.51.3 can corrupt that log when several connections write, so one process writes (a lock file says which) and in it
one connection (`assent.feedback.store.writer`); all others are read-only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool, PoolProxiedConnection, QueuePool

from assent.durable import sync_folder
from assent.errors import StoreError
from assent.feedback.refusals import Unavailable
from assent.feedback.store.schema import chain
from assent.feedback.store.session import Row, Session, Statement
from assent.feedback.store.store_file import DAMAGE, StoreFile

Connect = Callable[[str, bool], DBAPIConnection]
"""(path of the file, read only) -> a connection of SQLite; a test may bring its own file system."""

_BUSY_S = 10.0
_READERS, _MORE_READERS = 8, 56
_CHECKED_BYTES = 64 << 20
_ADVISORY_LOCK = 0x0A55E27  # of PostgreSQL: one batch is written at a time, whoever writes it


class Database:
    """Where the store lives. The lock of a SQLite file is held from `open` to `close`."""

    def __init__(self, url: sa.URL, *, read_only: bool, connect: Connect | None = None) -> None:
        self.sqlite = url.get_backend_name() == "sqlite"
        self.path = Path(url.database or "") if self.sqlite else None
        self.place = str(self.path) if self.sqlite else url.render_as_string(hide_password=True)
        self.read_only = read_only
        self._connect = connect or _connect_sqlite
        self._lock: int | None = None
        self._closed = False
        self.file: StoreFile | None = None
        self.head: Row | None = None  # the number and the hash of the newest event that this process knows of
        self.new = self.path is not None and not self.path.exists()
        if self.path is not None and not read_only:
            self._lock = _lock(self.path)
        elif self.path is not None and not self.path.is_file():
            raise StoreError("there is no store", where=self.place, now="Check the path.")
        self.writing = self._engine(url, read_only=False)
        self.reading = self._engine(url, read_only=True)
        dbapi = self.writing.dialect.dbapi
        assert dbapi is not None
        self.Error: type[Exception] = dbapi.Error

    def _engine(self, url: sa.URL, *, read_only: bool) -> sa.Engine:
        pool: dict[str, Any] = {"poolclass": NullPool}
        if read_only:
            pool = {"poolclass": QueuePool, "pool_size": _READERS, "max_overflow": _MORE_READERS}
        if self.path is not None:
            return sa.create_engine(url, paramstyle="named", creator=lambda: self._connected(read_only), **pool)
        if read_only:
            pool |= {"pool_pre_ping": True, "isolation_level": "AUTOCOMMIT"}
        return sa.create_engine(url, connect_args={"connect_timeout": 10}, **pool)

    def _connected(self, read_only: bool) -> DBAPIConnection:
        if self.file is not None:
            self.file.check_place()  # what stands there otherwise is not this store
        return self._connect(str(self.path), read_only)

    def watch(self) -> None:
        """From now on a file that is lost or damaged is noticed. StoreError for one that is damaged already."""
        if self.path is None:
            return
        with self.read() as session:
            self.head = session.first(_HEAD)
        small = self.path.stat().st_size <= _CHECKED_BYTES  # of more, a check would hold up the start
        if small and not self._sound():
            now = "Keep the file and those beside it, and go back to a backup."
            raise StoreError("the store's file is damaged", where=self.place, now=now)
        self.file = StoreFile(self.path, self._sound)

    def _sound(self) -> bool:
        """Whether a new connection finds every page in order, and the newest event that this process knows of."""
        try:
            with contextlib.closing(self._connect(str(self.path), True)) as connection:
                session = Session(connection, self.reading.dialect)
                return session.first(_QUICK_CHECK) == ("ok",) and session.first(_HEAD) == self.head
        except self.Error:
            return False

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Statements that only read; a failing database and a closed store are Unavailable."""
        if self._closed:  # ends what still reads in the background
            raise Unavailable("the store is closed", where=self.place, now="Open it again.")
        with self.translated():
            connection = self.reading.raw_connection()
            try:
                yield Session(connection, self.reading.dialect)
            finally:
                connection.close()

    def begin(self, connection: PoolProxiedConnection) -> Session:
        """Start a writing transaction on a connection of `writing`."""
        session = Session(connection, self.writing.dialect)
        session.rows(_BEGIN_POSTGRESQL) if not self.sqlite else session.run(_BEGIN_SQLITE)
        session.writes = 0
        return session

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the database's own errors into `Unavailable`."""
        try:
            yield
        except (self.Error, SQLAlchemyError) as error:
            raise self.refusal(error) from error

    def lost(self, connection: PoolProxiedConnection | None) -> bool:
        """Whether the server, not the statement, is the matter: there may be another connection soon."""
        if self.sqlite:
            return False
        return connection is None or bool(connection.closed)

    def refusal(self, error: BaseException) -> Unavailable:
        """What to tell people about a failure of the database."""
        cause = getattr(error, "orig", None) or error
        reason = str(cause).strip().split("\n")[0] or type(cause).__name__
        if self.file is not None:
            self.file.note(reason)
        if "is full" in reason or "No space left" in reason:
            now = "Free some space; the store goes on by itself, and what was saved is safe."
        elif self.file is not None and any(words in reason for words in DAMAGE):
            now = self.file.advice()
        else:
            now = "Check that the server is up."
            if self.sqlite:
                now = "What was acknowledged had been written before. Check the disk, and who may write there."
        return Unavailable(f"the store cannot be used now ({reason})", where=self.place, now=now)

    def backup(self, path: Path | str) -> None:
        """A consistent copy of a SQLite database, page by page while others write."""
        path = Path(path)
        if self.path is None:
            raise StoreError("only a SQLite store copies itself", where=self.place, now="Use pg_dump.")
        if path.exists():
            raise StoreError("the file exists", where=str(path), now="Give another path for the copy.")
        part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with self.translated(), contextlib.closing(sqlite3.connect(part)) as copy:
                source = self.reading.raw_connection()  # one that is open reads a file that was deleted, too
                try:
                    source.driver_connection.backup(copy)  # type: ignore[union-attr]
                finally:
                    source.close()
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            what = f"the copy cannot be written ({error.strerror})"
            raise StoreError(what, where=str(path), now="Check the folder, its permissions and its space.") from error
        finally:
            part.unlink(missing_ok=True)

    def saved_in_spite_of(self, trouble: Unavailable, at: float) -> str:
        """What is true of the store that is in trouble; where its file is lost, after saving a copy of it."""
        if self.file is None or not self.file.lost:
            return f"{trouble.what}. {trouble.now}"
        copy = self.file.path.with_name(f"{self.file.path.name}.rescued-{int(at)}")
        try:
            self.backup(copy)
        except StoreError as failed:
            return f"{trouble.what}. No copy could be saved: {failed}"
        return f"{trouble.what}. A copy of everything that was acknowledged is at {copy}"

    def close(self) -> None:
        """Let go of the pooled connections and of the lock."""
        self._closed = True
        self.reading.dispose()
        self.writing.dispose()
        if self.file is not None:
            self.file.part_from_another()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


_HEAD = Statement(sa.select(chain.c.seq, chain.c.sha256).where(chain.c.id == sa.literal_column("1")))
_QUICK_CHECK = Statement(sa.text("PRAGMA quick_check(1)"))
_BEGIN_SQLITE = Statement(sa.text("BEGIN IMMEDIATE"))
_BEGIN_POSTGRESQL = Statement(sa.select(sa.func.pg_advisory_xact_lock(sa.literal_column(str(_ADVISORY_LOCK)))))


def parse_url(url: str) -> sa.URL:
    """`sqlite:///path`, a bare path or `postgresql://...` (driven by psycopg) as SQLAlchemy's URL; StoreError."""
    if "://" not in url:
        return sa.URL.create("sqlite", database=url)
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is not None and parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    scheme, _, rest = url.partition("://")
    shown = f"{scheme}://...@{rest.rpartition('@')[2]}" if "@" in rest else url  # without a password
    now = "Give the path of a file, sqlite:///PATH or postgresql://USER@HOST/NAME."
    raise StoreError("no store can be opened by this URL", where=shown, now=now)


def _connect_sqlite(path: str, read_only: bool) -> DBAPIConnection:
    address = f"file:{quote(str(Path(path).absolute()))}?mode=rw"  # a file that is gone is not made anew
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    prepare_sqlite(connection.execute, read_only=read_only)
    return connection  # type: ignore[return-value]


def prepare_sqlite(execute: Callable[[str], Any], *, read_only: bool, synchronous: str = "FULL") -> None:
    """Set a fresh connection up; `synchronous` is a knob only for the tests that show why it is FULL."""
    if read_only:
        execute("PRAGMA query_only = 1")
        return
    execute("PRAGMA journal_mode = WAL")
    execute(f"PRAGMA synchronous = {synchronous}")
    execute("PRAGMA cache_size = -65536")  # KiB


def _lock(path: Path) -> int:
    place = path.with_name(path.name + ".lock")
    if not path.parent.is_dir():
        now = "Check the path and that its disk is mounted; for a new store make the folder first."
        raise StoreError("there is no such folder", where=str(path.parent), now=now)
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        what = f"the store cannot be opened ({error.strerror})"
        raise StoreError(what, where=str(path), now="Check the folder and its permissions.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        what = f"another process (id {holder}) has the store open for writing; only one may"
        now = "Stop that process (a running studio?), or let it do the work; PostgreSQL takes several."
        raise StoreError(what, where=str(path), now=now) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    path.touch()
    return descriptor
