"""Rows of JSON, one a line, that survive being cut: appended whole, a torn end is taken away when opened."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assent.durable import writing
from assent.errors import RunError


class JsonLines:
    """A log with a `step` in every row, steps never falling. Opening it creates it and cuts a torn last line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            whole = self._end_of_whole_rows()
            if whole < os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, whole)

    def append(self, step: int, row: Mapping[str, Any]) -> None:
        """Write one row; a reader sees it at once. A number that is not finite is written as null.

        Raises RunError when the disk is full; the rows before are then whole.
        """
        data = (json.dumps({"step": step, **_finite(row)}, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with writing(self._path, safe="The rows before are intact."):
            size = os.fstat(self._descriptor).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
            except BaseException:
                os.ftruncate(self._descriptor, size)
                raise

    def truncate_after(self, step: int) -> None:
        """Cut every row after `step`."""
        end = 0
        for number, (row, stop) in enumerate(self._rows(), 1):
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                now = "Set the file aside, or start the run again with --overwrite."
                raise RunError("not a row with a step", where=f"{self._path}:{number}", now=now)
            if row["step"] > step:
                break
            end = stop
        with writing(self._path):
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)

    def sync(self) -> None:
        """Wait until every row is on the disk."""
        with writing(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; rows stay."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _rows(self) -> Iterator[tuple[Any, int]]:
        stop = 0
        with self._path.open("rb") as file:
            for line in file:
                stop += len(line)
                yield _row(line), stop

    def _end_of_whole_rows(self) -> int:
        """The end of the last line that ends and is JSON. Only the last one is judged: the rest was whole before."""
        data = b""
        with self._path.open("rb") as file:
            start = 0
            for line in file:
                start += len(data)
                data = line
        return start + len(data) if data.endswith(b"\n") and _row(data) is not None else start


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log that may be growing: a torn last line is left out; an absent file has no rows."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        rows = [_row(line) for line in file if line.endswith(b"\n")]
    return [row for row in rows if isinstance(row, dict)]


def _row(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
