"""The lock of a run folder: one process writes, and the lock goes with it however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from assent.durable import writing
from assent.errors import RunError

FILE = ".lock"


def hold(run: Path) -> int:
    """Lock a run folder for this process; closing the descriptor gives it back. Raises RunError if it is held."""
    with writing(run / FILE):
        descriptor = os.open(run / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            what = f"another process{f' ({holder})' if holder else ''} is writing this run"
            now = "Wait for it, or give another --out."
            raise RunError(what, where=str(run), now=now) from None
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def is_held(run: Path) -> bool:
    """Whether a living process holds the run: a status "running" without it means that the process was killed."""
    try:
        descriptor = os.open(run / FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
