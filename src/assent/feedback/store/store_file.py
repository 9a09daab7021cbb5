"""The file under an open SQLite store, watched: it may be deleted, moved, replaced, cut or overwritten at any time.

SQLite writes on without a word: into a file that has no name any more, or beside what somebody else wrote. So every
commit looks before and after (a few calls of stat): the same file, not shorter, not written by anybody else, and its
write-ahead log in place. Only this process writes, so a time of change that it does not know of is looked into, with
`PRAGMA quick_check` on a connection of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from assent.feedback.refusals import Unavailable

LEAST_ROOM_BYTES = 64 << 10
BESIDE = ("-wal", "-shm")
DAMAGE = ("malformed", "not a database")  # what SQLite says of a file that is no store any more
_BACK = "Put that very file back, and the studio goes on."
_STOP = "Stop the studio in order (Ctrl-C)"


@dataclass(frozen=True, slots=True)
class _Mark:
    """Which file, and as it was left."""

    place: tuple[int, int]
    size: int
    changed_ns: int


def _mark(path: Path) -> _Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Mark((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)


class StoreFile:
    """`sound` says whether what a new connection reads is the store as this process left it."""

    def __init__(self, path: Path, sound: Callable[[], bool]) -> None:
        self.path, self._sound = path, sound
        self._main = _mark(path)
        self._beside: dict[str, tuple[int, int]] = {}
        self._damage = ""
        self.kept_at: float | None = None  # when something was last acknowledged, in seconds since the epoch

    @property
    def lost(self) -> bool:
        """Whether the store's file does not stand in its place any more."""
        now = _mark(self.path)
        return self._main is not None and (now is None or now.place != self._main.place)

    def check_place(self) -> None:
        """Raises Unavailable unless the store's own file stands in its place."""
        if self.lost:
            gone = not self.path.exists()
            what = "the store's file is gone" if gone else "another file stands in the place of the store's"
            now = f"{_BACK} {self._until()} is in that file only: if it was deleted, s{_STOP[1:]} to save a copy."
            raise Unavailable(f"{what}: nothing can be kept now", where=str(self.path), now=now)

    def check(self) -> None:
        """Raises Unavailable unless the file is as this process left it."""
        self.check_place()
        now = _mark(self.path)
        if not self._damage and now is not None and self._main is not None and now != self._main:
            if now.size < self._main.size:
                self._damage = "cut short"
            elif not self._sound():
                self._damage = "overwritten"
            else:
                self._main = now
        if self._damage:
            what = f"the store's file was {self._damage}: nothing can be kept now"
            raise Unavailable(what, where=str(self.path), now=self.advice())
        for ending, place in self._beside.items():
            found = _mark(self.path.with_name(self.path.name + ending))
            if found is None or found.place != place:
                now_ = f"{_STOP}: it then writes what was acknowledged into the store's file. A kill would lose it."
                what = "the file of the latest changes, beside the store's, was removed"
                raise Unavailable(f"{what}: nothing can be kept now", where=str(self.path) + ending, now=now_)

    def settle(self, at: float | None = None) -> None:
        """This process has written, and acknowledges it at that time; Unavailable where it went astray."""
        self.check_place()
        if not self._damage:
            self._main = _mark(self.path)
        for ending in BESIDE:
            found = _mark(self.path.with_name(self.path.name + ending))
            if found is not None:
                self._beside.setdefault(ending, found.place)
        self.check()
        self.kept_at = at or self.kept_at

    def let_go(self) -> None:
        """The writing connection is closed: the files beside the store's may come and go."""
        self._beside.clear()

    def note(self, reason: str) -> None:
        """Take in what SQLite said of a failure."""
        if any(words in reason for words in DAMAGE):
            self._damage = self._damage or "damaged"

    def part_from_another(self) -> None:
        """Where another file took the store's place: its log goes aside, or SQLite would write it into that file."""
        if self.lost and self.path.exists():
            for ending in BESIDE:
                left = self.path.with_name(self.path.name + ending)
                with contextlib.suppress(OSError):
                    left.rename(left.with_name(f"{left.name}.lost"))

    def check_room(self) -> None:
        """Raises Unavailable where the file could not grow."""
        try:
            disk = os.statvfs(self.path)
        except OSError:
            return  # a file that is gone is told of by the others
        free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
        if free < LEAST_ROOM_BYTES:
            raise Unavailable("the disk is full", where=str(self.path), now="Free some space.")

    def advice(self) -> str:
        """What to do about a damaged file, and what of it may be lost."""
        keep = f"{_STOP}, keep what is left (the file and those beside it) and go back to a backup."
        return f"{keep} {self._until()} may be lost."

    def _until(self) -> str:
        if self.kept_at is None:
            return "What was acknowledged before the studio started"
        return f"What was acknowledged until {datetime.fromtimestamp(self.kept_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
