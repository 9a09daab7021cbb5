"""A disk that one can pull the plug of, or fill: SQLite's own build in apsw, on a file system that notes every write.

`RecordingDisk` passes everything on to real files and keeps the list of what was written and synced. `after_power_cut`
builds from it what may be left when the power fails at some moment: everything synced, and of each later write all,
nothing, or a torn part. `connect` gives the store connections on it that look like those of sqlite3.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from assent.feedback.store.engine import Connect, prepare_sqlite

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to a file: "write" (at, data), "truncate" (at), "sync" or "delete"."""

    what: str
    path: str
    at: int = 0
    data: bytes = b""


@dataclass
class RecordingDisk:
    """The notes, and how the disk fails: `room` is how many more bytes files may grow by (None: any)."""

    name: str
    steps: list[Step] = field(default_factory=list)
    room: int | None = None
    failing: Callable[[Step], None] | None = None

    def __post_init__(self) -> None:
        self._vfs = _Vfs(self)  # registered as long as it is referred to

    def note(self, step: Step) -> None:
        """Keep the step, unless the disk refuses it."""
        if self.failing is not None:
            self.failing(step)
        self.steps.append(step)

    def connect(self, *, synchronous: str = "FULL", checkpoint_pages: int = 30) -> Connect:
        """Connections for `FeedbackStore.open`; a small log makes checkpoints frequent."""

        def connect(path: str, read_only: bool) -> Any:
            connection = _Connection(path, self.name)
            prepare_sqlite(connection.execute, read_only=read_only, synchronous=synchronous)
            if not read_only:
                connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
            return connection

        return connect


class _Vfs(apsw.VFS):
    def __init__(self, disk: RecordingDisk) -> None:
        self._disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._disk.note(Step("delete", filename))
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: RecordingDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        grows = offset + len(data) - self.xFileSize()
        if self._disk.room is not None and grows > self._disk.room:
            raise apsw.FullError("no space left")
        self._disk.note(Step("write", self._path, offset, bytes(data)))
        super().xWrite(data, offset)
        if self._disk.room is not None:
            self._disk.room -= max(0, grows)

    def xTruncate(self, newsize: int) -> None:
        self._disk.note(Step("truncate", self._path, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._disk.note(Step("sync", self._path))  # the real file need not be synced: it outlives the test


def after_power_cut(folder: Path, before: Mapping[str, bytes], steps: Iterable[Step], chance: random.Random) -> None:
    """Write into `folder` what may be left of the files after `steps`; `before` is their content at the start."""
    safe = {path: bytearray(content) for path, content in before.items()}
    loose: dict[str, list[Step]] = {}
    for step in steps:
        if step.what == "sync":
            image = safe.setdefault(step.path, bytearray())
            for earlier in loose.pop(step.path, []):
                _apply(image, earlier)
        elif step.what == "delete":  # the folder is not synced by the store's way of working: it may be undone
            loose.setdefault(step.path, []).append(Step("truncate", step.path, 0))
        else:
            loose.setdefault(step.path, []).append(step)
    for path, writes in loose.items():
        image = safe.setdefault(path, bytearray())
        for step in writes:
            fate = chance.random()
            if fate < 0.45:
                _apply(image, step)
            elif fate < 0.6 and step.what == "write":
                sectors = max(1, len(step.data) // SECTOR)
                kept = step.data[: chance.randrange(sectors + 1) * SECTOR]
                _apply(image, Step("write", path, step.at, kept))
    for path, image in safe.items():
        if not path.endswith("-shm"):
            (folder / Path(path).name).write_bytes(image)


def _apply(image: bytearray, step: Step) -> None:
    if step.what == "truncate":
        del image[step.at :]
        return
    if len(image) < step.at:
        image.extend(bytes(step.at - len(image)))
    image[step.at : step.at + len(step.data)] = step.data


class _Connection:
    """What the store uses of a sqlite3 connection."""

    isolation_level = None

    def __init__(self, path: str, vfs: str) -> None:
        self._own = apsw.Connection(path, vfs=vfs)
        self._own.set_busy_timeout(10_000)

    def cursor(self) -> _Cursor:
        return _Cursor(self._own)

    def execute(self, sql: str) -> _Cursor:
        return self.cursor().execute(sql)

    def create_function(self, *_: object, **__: object) -> None:
        """The store uses none."""

    def commit(self) -> None:
        if self._own.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        if self._own.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        self._own.close(True)


class _Cursor:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._rows: list[tuple[Any, ...]] = []
        self.description: Any = None
        self.rowcount = self.lastrowid = -1
        self.arraysize = 1

    def execute(self, sql: str, values: Any = ()) -> _Cursor:
        cursor = self._connection.cursor()
        self.description = None
        cursor.exec_trace = self._describe
        before = self._connection.total_changes()
        try:
            self._rows = list(cursor.execute(sql, values or None))
        except apsw.Error as error:
            kind = sqlite3.IntegrityError if isinstance(error, apsw.ConstraintError) else sqlite3.OperationalError
            raise kind(f"{type(error).__name__} {re.sub('FullError:?', 'is full', repr(error))}") from error
        self.rowcount = self._connection.total_changes() - before
        return self

    def _describe(self, cursor: apsw.Cursor, _: str, __: Any) -> bool:
        found = cursor.get_description()
        self.description = [(*column, None, None, None, None, None)[:7] for column in found] or None
        return True

    def executemany(self, sql: str, rows: Iterable[Any]) -> _Cursor:
        for row in rows:
            self.execute(sql, row)
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self._rows = self._rows, []
        return rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, count: int = 1) -> list[tuple[Any, ...]]:
        rows, self._rows = self._rows[:count], self._rows[count:]
        return rows

    def close(self) -> None:
        self._rows = []
