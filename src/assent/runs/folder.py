"""One run = one folder: settings, lineage, logs and status; locked while it runs, continued only as what it was."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from assent.config import difference
from assent.durable import write_atomic, writing
from assent.errors import Interrupted, RunError
from assent.runs.lock import FILE as _LOCK
from assent.runs.lock import hold
from assent.runs.logs import JsonLines, read_rows

_CONDITIONS = ("versions", "machine", "threads", "commit")  # what may change the last bits, and nothing else
_CONFIG, _LINEAGE, _STATUS = "config.json", "lineage.json", "status.json"
_STARTED_WITH = {_LOCK, _LINEAGE, _STATUS}  # config.json is written last: without it nothing has begun
_COMPARED = ("data", "parents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a run stands: `state` is running, finished, interrupted or failed; `updated` is a time in UTC.

    `step` of `total` counts in `unit`: steps, or iterations.
    """

    kind: str
    state: str
    step: int
    total: int
    updated: str
    unit: str = "steps"

    @property
    def done(self) -> str:
        """How far it is, for people: "3 of 100 iterations"."""
        return f"{self.step} of {self.total} {self.unit}"


class RunDir:
    """The folder of one run, held by this process alone. A context: leaving it by an error marks the run so.

    `config.json`, `lineage.json`, `status.json`, `metrics.jsonl`, `samples.jsonl` and the folder `checkpoints`.
    `warnings` says what may make a resumed run differ from one that was never cut: other library versions, another
    number of threads.
    """

    def __init__(self, path: Path, *, lock: int, status: Status, warnings: tuple[str, ...] = ()) -> None:
        """For `create` and `open_for_resume`, which hold the lock."""
        self.path, self.warnings, self.status = path, warnings, status
        self._lock = lock
        self.metrics = JsonLines(path / "metrics.jsonl")
        self.samples = JsonLines(path / "samples.jsonl")

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        kind: str,
        settings: Mapping[str, Any],
        lineage: Mapping[str, Any],
        total: int = 0,
        overwrite: bool = False,
    ) -> Self:
        """Begin a run of `kind` (a method, "eval", ...) with `total` steps in a folder that is new or empty.

        `overwrite` removes a run that is there, never a folder that is not a run. Raises RunError.
        """
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        lock = hold(path)
        try:
            _make_room(path, overwrite=overwrite)
            status = Status(kind=kind, state="running", step=0, total=total, updated=_now())
            write_atomic(path / _STATUS, _json(asdict(status)))
            write_atomic(path / _LINEAGE, _json(lineage))
            write_atomic(path / _CONFIG, _json(settings))
            return cls(path, lock=lock, status=status)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def open_for_resume(
        cls, path: Path, *, settings: Mapping[str, Any], lineage: Mapping[str, Any], ignore: Collection[str] = ()
    ) -> Self:
        """Continue an unfinished run. Raises RunError where settings, data or parents are not what they were.

        `ignore` names settings ("checkpoint_every", "output.folder", or a whole section "log") that may change.
        The logs still hold what came after the last checkpoint: call `truncate_after` with its step.
        """
        _refuse_no_run(path)
        lock = hold(path)
        try:
            before = _refuse_no_run(path)
            _refuse_changes(path, settings, lineage, ignore)
            both = (read_lineage(path), lineage)
            conditions = ({name: one[name] for name in _CONDITIONS if one.get(name)} for one in both)
            told = "resumed under another condition, results may differ in their last bits"
            warnings = tuple(f"{told}: {line}" for line in difference(*conditions))
            run = cls(path, lock=lock, status=before, warnings=warnings)
            run.set_status("running")
            return run
        except BaseException:
            os.close(lock)
            raise

    @property
    def checkpoints(self) -> Path:
        """The folder for a CheckpointStore."""
        return self.path / "checkpoints"

    def set_status(
        self, state: str, *, step: int | None = None, total: int | None = None, unit: str | None = None
    ) -> None:
        """Change the status. Cheap while only the step changes; on the disk before it returns when the state does."""
        before = self.status
        self.status = Status(
            kind=before.kind,
            state=state,
            step=before.step if step is None else step,
            total=before.total if total is None else total,
            unit=unit or before.unit,
            updated=_now(),
        )
        write_atomic(self.path / _STATUS, _json(asdict(self.status)), durable=state != before.state)

    def sync(self) -> None:
        """Put the logs on the disk. Call it before a checkpoint is saved, so that no row is missing after a resume."""
        self.metrics.sync()
        self.samples.sync()

    def truncate_after(self, step: int) -> None:
        """Cut from both logs what came after `step`, so that they grow to what an uninterrupted run writes."""
        self.metrics.truncate_after(step)
        self.samples.truncate_after(step)

    def discard(self) -> None:
        """Remove a closed run that has no row yet: nothing of it is worth keeping."""
        if not any(read_rows(self.path / "metrics.jsonl")):
            shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Close the logs and give the lock back."""
        self.metrics.close()
        self.samples.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind and self.status.state == "running":
            stopped = issubclass(kind, Interrupted | KeyboardInterrupt)
            with contextlib.suppress(RunError):  # the error on its way out matters more
                self.set_status("interrupted" if stopped else "failed")
        self.close()


def read_status(path: Path) -> Status:
    """The status of the run in a folder, running or not. Raises RunError where there is none."""
    document = _read_json(path / _STATUS)
    try:
        return Status(**document)
    except TypeError:
        what, now = "not a run's status", "The folder cannot be used; give another --out."
        raise RunError(what, where=str(path / _STATUS), now=now) from None


def read_settings(path: Path) -> dict[str, Any]:
    """The settings the run in a folder was started with. Raises RunError."""
    return _read_json(path / _CONFIG)


def read_lineage(path: Path) -> dict[str, Any]:
    """What the run in a folder was made from and where. Raises RunError."""
    return _read_json(path / _LINEAGE)


def check_place(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse at once what `create` or `open_for_resume` would refuse later, before time is spent. Raises RunError."""
    if resume and overwrite:
        raise RunError("--resume and --overwrite exclude each other", where=str(path), now="Give one of them.")
    if path.exists() and not path.is_dir():
        raise RunError("this is a file; a run is a folder", where=str(path), now="Give another --out.")
    if resume:
        _refuse_no_run(path)
    elif path.is_dir():
        _refuse_taken(path, overwrite=overwrite)


def _refuse_no_run(path: Path) -> Status:
    if not (path / _CONFIG).is_file():
        now = "Start it without --resume, or check --out."
        raise RunError("there is no run to resume", where=str(path), now=now)
    before = read_status(path)
    if before.state == "finished":
        what = f"the run of {before.kind} is finished ({before.done})"
        now = "There is nothing left to train; give another --out for a new run."
        raise RunError(what, where=str(path), now=now)
    return before


def _refuse_taken(path: Path, *, overwrite: bool) -> bool:
    """Whether there is a run that will be replaced; what may not be replaced is an error."""
    present = {entry.name for entry in path.iterdir() if not entry.name.endswith(".tmp")}
    if present <= _STARTED_WITH:
        return False
    if _CONFIG not in present:
        now = "Give another --out: only an empty folder, or one that holds a run, can be used."
        raise RunError("the folder is not empty and holds no run", where=str(path), now=now)
    if not overwrite:
        status = read_status(path)
        finished = status.state == "finished"
        what = f"holds {'a finished' if finished else 'an unfinished'} run of {status.kind} ({status.done})"
        ways = "Give another --out, or --overwrite to replace it."
        raise RunError(what, where=str(path), now=ways if finished else f"Give --resume to continue it. {ways}")
    return True


def _make_room(path: Path, *, overwrite: bool) -> None:
    if not _refuse_taken(path, overwrite=overwrite):
        return
    with writing(path):
        (path / _CONFIG).unlink()
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()


def _refuse_changes(
    path: Path, settings: Mapping[str, Any], lineage: Mapping[str, Any], ignore: Collection[str]
) -> None:
    free = tuple(f"{mark}{end}" for mark in ignore for end in (": ", "."))
    changes = [line for line in difference(read_settings(path), settings) if not line.startswith(free)]
    old_lineage = _read_json(path / _LINEAGE)
    for part in _COMPARED:
        changes += difference(_identities(old_lineage, part), _identities(lineage, part))
    if changes:
        what = "the run was started with other settings or data:" + "".join(f"\n  {line}" for line in changes)
        now = "Resume with what it was started with, or give another --out for a new run."
        raise RunError(what, where=str(path), now=now)


def _identities(lineage: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Hash by place, so that a file that only moved is still the same file."""
    named = {}
    for place, entry in enumerate(lineage.get(part) or [], 1):
        name = f"{part}.{place} ({entry['role']})" if entry.get("role") else f"{part}.{place}"
        named[name] = str(entry.get("sha256"))[:16]
    return named


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        now = "The folder holds no whole run; give another --out."
        raise RunError("the file is missing", where=str(path), now=now) from None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RunError("the file is damaged", where=str(path), now="Give another --out.")
    return document


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
