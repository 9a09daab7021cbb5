"""Run folders as the studio shows them: found below one folder, read piecewise, never trusted.

A name is a path of plain folder names below the root. Every folder on the way and every file is opened without
following links, relative to the folder before it, and must be what it claims to be; so neither a name nor what lies in
a run can lead outside, block on a pipe, or fill the memory.
"""

from __future__ import annotations

import itertools
import json
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from assent.feedback.refusals import NotFound
from assent.runs.lock import is_held

DEPTH = 3  # folders below the root that may be a run
MOST_RUNS = 500
MOST_ENTRIES = 20_000  # looked at in one listing
DOCUMENT_BYTES = 512 * 1024  # config, lineage, status
PAGE_BYTES = 1024 * 1024  # of metrics in one answer
HISTORY_BYTES = 64 * 1024 * 1024  # of metrics shown at all; a longer log is shown from there on
LINE_BYTES = 64 * 1024
SAMPLE_BYTES = 4 * 1024 * 1024
SAMPLE_CHARACTERS = 8_000
SAMPLES_A_STEP = 24
NAMES_A_ROW = 200
_PRINT_BYTES = 256  # of the log before a cursor, by which a cut log is noticed
_INSIDE_RUNS = {"checkpoints", "model", "tensorboard"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run in the list. `state` is "killed" where status.json says running and no process holds the run."""

    name: str
    kind: str
    state: str
    step: int
    total: int
    unit: str
    updated: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPage:
    """Rows of numbers after a cursor. `fresh`: forget what was read before (the log was cut); `more`: ask again now."""

    rows: tuple[Mapping[str, float], ...]
    cursor: str
    fresh: bool
    more: bool
    cut_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSample:
    """One completion of samples.jsonl; `reward` is None where it was not finite."""

    step: int
    prompt: str
    completion: str
    stop: str
    reward: float | None


class RunFolders:
    """The runs below `root`; nothing is kept between calls."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def runs(self) -> list[RunSummary]:
        """Every run found, the latest update first; at most MOST_RUNS."""
        found = []
        for name in self._names():
            with suppress(NotFound):
                found.append(self.run(name))
        return sorted(found, key=lambda one: one.updated, reverse=True)

    def run(self, name: str) -> RunSummary:
        """One run. Raises NotFound where there is none of that name."""
        with self._folder(name) as folder:
            status = _document(folder, "status.json")
            state = _word(status.get("state"))
            if state == "running" and not self._held(folder, name):
                state = "killed"
            words = {field: _word(status.get(field)) for field in ("kind", "updated")}
            step, total = _count(status.get("step")), _count(status.get("total"))
            unit = "iteration" if status.get("unit") == "iterations" else "step"
            return RunSummary(name=name, state=state, step=step, total=total, unit=unit, **words)

    def document(self, name: str, kind: str) -> dict[str, Any]:
        """The settings ("config") or the lineage ("lineage") of a run; empty where the file is missing or damaged."""
        if kind not in ("config", "lineage"):
            raise _absent(name)
        with self._folder(name) as folder:
            return _document(folder, f"{kind}.json", needed=False)

    def metrics(self, name: str, cursor: str = "") -> MetricsPage:
        """The next rows of metrics.jsonl after `cursor` (empty: from the beginning)."""
        with self._folder(name) as folder, _file(folder, "metrics.jsonl") as (file, size):
            skipped = max(0, size - HISTORY_BYTES)
            start, known = _position(file, cursor, size)
            fresh = not known
            if fresh:
                start = 0 if not skipped else _line_start(file, skipped)
            data = os.pread(file, PAGE_BYTES, start)
            end = data.rfind(b"\n") + 1
            if not end and len(data) >= LINE_BYTES:
                end = len(data)  # a line that never ends: pass over it
            rows = tuple(row for line in data[:end].splitlines() if (row := _numbers(line)) is not None)
            stop = start + end
            more = end > 0 and start + len(data) < size
            return MetricsPage(rows=rows, cursor=_cursor(file, stop), fresh=fresh, more=more, cut_bytes=skipped)

    def samples(self, name: str) -> list[RunSample]:
        """The latest completions, oldest first; at most SAMPLES_A_STEP a step, from the end of samples.jsonl."""
        with self._folder(name) as folder, _file(folder, "samples.jsonl") as (file, size):
            start = _line_start(file, size - SAMPLE_BYTES) if size > SAMPLE_BYTES else 0
            data = os.pread(file, SAMPLE_BYTES, start)
        found: list[RunSample] = []
        at_step: dict[int, int] = {}
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            sample = _sample(line)
            if sample is not None and at_step.get(sample.step, 0) < SAMPLES_A_STEP:
                at_step[sample.step] = at_step.get(sample.step, 0) + 1
                found.append(sample)
        return found

    def _names(self) -> Iterator[str]:
        waiting: list[tuple[str, ...]] = [()]
        runs = entries = 0
        while waiting and runs < MOST_RUNS and entries < MOST_ENTRIES:
            parts = waiting.pop(0)
            with suppress(NotFound), self._folder("/".join(parts), root_too=True) as folder:
                with os.scandir(folder) as listing:
                    some = itertools.islice(listing, MOST_ENTRIES - entries)
                    inside = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in some]
                entries += len(inside)
                if parts and {"config.json", "status.json"} <= {name for name, is_folder in inside if not is_folder}:
                    runs += 1
                    yield "/".join(parts)
                if len(parts) < DEPTH:
                    below = sorted(name for name, is_folder in inside if is_folder and name not in _INSIDE_RUNS)
                    waiting += [(*parts, name) for name in below if _plain(name)]

    @contextmanager
    def _folder(self, name: str, *, root_too: bool = False) -> Iterator[int]:
        parts = name.split("/") if name else []
        if not all(_plain(part) for part in parts) or len(parts) > DEPTH or not (parts or root_too):
            raise _absent(name)
        opened: list[int] = []
        try:
            opened.append(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY))
            for part in parts:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                opened.append(os.open(part, flags, dir_fd=opened[-1]))
        except OSError:
            _close(opened)
            raise _absent(name) from None
        try:
            yield opened[-1]
        finally:
            _close(opened)

    def _held(self, folder: int, name: str) -> bool:
        try:
            regular = stat.S_ISREG(os.stat(".lock", dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError:
            return False
        return regular and is_held(self._root.joinpath(*name.split("/")))


def _plain(part: str) -> bool:
    """Whether a part of a name is one ordinary, visible folder name."""
    return bool(part) and not part.startswith(".") and len(part) <= 255 and not any(c in part for c in "/\\\0")


def _absent(name: str) -> NotFound:
    return NotFound("there is no such run", where=name[:200], now="Choose one from the list of runs.")


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@contextmanager
def _file(folder: int, name: str) -> Iterator[tuple[int, int]]:
    """(descriptor, size) of a regular file in an open folder; a missing one reads as empty."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            descriptor = os.open(os.devnull, os.O_RDONLY)
        yield descriptor, os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _document(folder: int, name: str, *, needed: bool = True) -> dict[str, Any]:
    with _file(folder, name) as (file, size):
        data = os.read(file, DOCUMENT_BYTES) if size <= DOCUMENT_BYTES else b""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    if needed:
        raise _absent("this folder")
    return {}


def _position(file: int, cursor: str, size: int) -> tuple[int, bool]:
    """Where a cursor points and whether the log before it is still the one it was given for."""
    offset, _, check = cursor.partition("-")
    if not (offset.isascii() and offset.isdigit() and len(offset) < 19):
        return 0, False
    start = int(offset)
    return start, 0 < start <= size and _cursor(file, start) == f"{start}-{check}"


def _cursor(file: int, offset: int) -> str:
    before = os.pread(file, min(_PRINT_BYTES, offset), max(0, offset - _PRINT_BYTES))
    return f"{offset}-{zlib.crc32(before):08x}"


def _line_start(file: int, offset: int) -> int:
    """The beginning of the first whole line after `offset`."""
    end = os.pread(file, LINE_BYTES, offset).find(b"\n")
    return offset + end + 1


def _numbers(line: bytes) -> dict[str, float] | None:
    """The finite numbers of a row with a step, or None where it is none."""
    row = _row(line)
    if row is None:
        return None
    numbers = {}
    for name, value in list(row.items())[:NAMES_A_ROW]:
        if _is_number(value):
            numbers[_word(name, 80)] = value
    return numbers if "step" in numbers else None


def _sample(line: bytes) -> RunSample | None:
    row = _row(line)
    if row is None or not isinstance(row.get("step"), int):
        return None
    reward, stop = row.get("reward"), _word(row.get("stop"))
    texts = {name: _word(row.get(name), SAMPLE_CHARACTERS) for name in ("prompt", "completion")}
    return RunSample(step=row["step"], **texts, stop=stop, reward=float(reward) if _is_number(reward) else None)


def _row(line: bytes) -> dict[str, Any] | None:
    if len(line) > LINE_BYTES:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _word(value: object, longest: int = 100) -> str:
    """Text that can be sent: cut, without the lone surrogates that JSON may spell."""
    return value[:longest].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0
