"""A private PostgreSQL server from the distribution's binaries, in a temporary folder, on a unix socket only."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

DISTRIBUTION = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """The folder of the newest server's programs, None where there is none."""
    found = sorted(DISTRIBUTION.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def reason_to_skip() -> str | None:
    """Why no server can be started here."""
    if binaries() is None:
        return "PostgreSQL is not installed (scripts/postgres installs it on Debian and Ubuntu)"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres or nobody"
    return None


def _unprivileged() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Server:
    """One cluster; `crash` kills it as a power cut would kill the process, `start` brings it back."""

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self.folder, self._data, self._fsync = folder, folder / "data", fsync
        self._user = _unprivileged() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def start(self) -> None:
        """Start, and wait until it takes connections; an unclean stop is recovered from."""
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=300 -c fsync={int(self._fsync)}"
        if self._fsync:  # or it asks the disk for each of a thousand files before it starts again
            options += " -c recovery_init_sync_method=syncfs"
        command = ["pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-l", str(self.folder / "log"), "-o", options]
        for last_try in (False, False, False, False, True):
            try:
                self._run(*command, "start")
                return
            except subprocess.CalledProcessError:  # the memory of a killed server is not free at once
                if last_try:
                    raise
                time.sleep(0.5)

    def stop(self) -> None:
        """Stop at once; nothing needs to be kept."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def crash(self) -> None:
        """kill -9 of the whole server: the postmaster first, so that it cannot recover by itself."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        patience = time.monotonic() + 5  # until the last is gone its memory is held, and a start is refused
        while any(map(_runs, processes)) and time.monotonic() < patience:
            time.sleep(0.005)
        # All are dead, but init takes note of it only after seconds; with these files a start would wait for that.
        for mark in (self._data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*.lock")):
            mark.unlink(missing_ok=True)

    def processes(self) -> tuple[int, ...]:
        """The postmaster and its children."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return postmaster, *map(int, children)

    def url(self) -> str:
        """The URL of its one database."""
        return f"postgresql://tester@/postgres?host={self.folder}"

    def fresh_schema(self, name: str) -> str:
        """Make an empty schema; a URL under which it is the whole database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
            connection.execute(f'CREATE SCHEMA "{name}"')
        return f"{self.url()}&options=-csearch_path%3D{name}"

    def _run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder is not None
        who = {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        subprocess.run(
            [folder / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            **who,
        )


@contextlib.contextmanager
def running_server(*, fsync: bool = False) -> Iterator[Server]:
    """A started server that is gone with its folder afterwards. The folder's name is short: sockets need that.

    Without `fsync` it survives a kill but not a power cut, and lies in memory where it can.
    """
    memory = Path("/dev/shm")
    place = memory if not fsync and os.access(memory, os.W_OK) else Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=place))
    folder.chmod(0o755)
    try:
        server = Server(folder, fsync=fsync)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_SERVER: pytest.StashKey[Server] = pytest.StashKey()


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Server:
    """One server for the whole session, whoever imports this; skips where PostgreSQL is not there."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    stash = request.config.stash
    if _SERVER not in stash:
        running = contextlib.ExitStack()
        stash[_SERVER] = running.enter_context(running_server())
        request.config.add_cleanup(running.close)
    return stash[_SERVER]
