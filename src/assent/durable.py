"""Atomic files: after any crash, a file is either the whole old one or the whole new one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from assent.errors import RunError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_INTACT = "What was written before is intact."


@contextlib.contextmanager
def writing(path: Path, *, safe: str = _INTACT) -> Iterator[None]:
    """Turn errors of the file system into a RunError that names `path` and says what is `safe`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_SPACE:
            now = f"{safe} Free some space (or raise the quota) and try again; a run goes on with --resume."
            raise RunError(f"there is no space left to write ({reason})", where=str(path), now=now) from error
        now = f"{safe} Check the folder and its permissions."
        raise RunError(f"cannot be written ({reason})", where=str(path), now=now) from error


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Replace `path` by `content`. A reader sees the old or the new file, never a part, and no temporary file stays.

    `durable=False` skips the two syncs: after a power cut the file may be the old one. Raises RunError if the file
    system fails.
    """
    with whole_file(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path, *, durable: bool = True, safe: str = _INTACT) -> Iterator[BinaryIO]:
    """A file that replaces `path` if the block succeeds, and leaves no trace if it fails.

    Raises RunError if the file system fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, safe=safe), _removed_at_the_end(temporary):
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)


@contextlib.contextmanager
def _removed_at_the_end(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` (creations, renames, removals) are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """The sha256 of a file in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
