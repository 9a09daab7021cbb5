"""Run the command line in this process, as a person would, and keep what it said."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assent.cli import main
from assent.metrics import without_timings

TINY_SHAPE = (
    "--set", "shape.hidden_size=16", "--set", "shape.layers=1", "--set", "shape.heads=2",
    "--set", "shape.intermediate_size=32", "--set", "shape.vocabulary_size=400", "--set", "shape.context=96",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def assent(*arguments: object) -> Ran:
    """Run `assent ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
    return Ran(code, out.getvalue(), err.getvalue())


def worked(*arguments: object) -> Ran:
    """Run a command that must succeed."""
    ran = assent(*arguments)
    assert ran.code == 0, ran.err
    return ran


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics without what no two runs have in common: times and memory."""
    return [without_timings(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A JSON lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
