"""Files of `assent feedback import`: which tool wrote them, and their rows as items with answers."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assent.config import Settings
from assent.data.examples import Kind
from assent.data.files import read_file
from assent.data.formats import detect, format_named
from assent.data.load import (
    Dataset,
    ReadOptions,
    load_comparisons,
    load_demonstrations,
    load_rankings,
    load_ratings,
    set_aside,
)
from assent.data.rows import SourceRow
from assent.errors import DataError
from assent.feedback.importing.argilla import FieldNames, argilla_reader
from assent.feedback.importing.imported import Collected, Imported, ImportLimits, ImportRow, collect
from assent.feedback.importing.judged import imported_of
from assent.feedback.importing.label_studio import TaskNames, label_studio_reader
from assent.feedback.importing.own import read_own

TOOLS = ("items", "argilla", "label-studio")
_LOAD: dict[Kind, Callable[[Path, ReadOptions], Dataset[Any]]] = {
    Kind.COMPARISONS: load_comparisons,
    Kind.RANKINGS: load_rankings,
    Kind.RATINGS: load_ratings,
    Kind.DEMONSTRATIONS: load_demonstrations,
}
_JUDGED = ("ranks", "ranking", "scores", "chosen", "label", "rating", "score")
_LISTS = ("completions", "candidates", "responses", "answers")
_MEBIBYTE = 1 << 20
_CHUNK = 1 << 20


class ImportJob(Settings):
    """`assent feedback import`. `mode` and what follows it are for a project that is not there yet.

    `answers` says what becomes of judgement in the file: kept as answers of people named after whoever gave them, made
    the known answers of control items, or dropped, so that the items are asked anew. `prompt`, `completions` and
    `buckets` (best first) name fields of other tools where their names do not say what they hold.
    """

    mode: Literal["ranking", "pairwise", "rating", "good_bad", "demonstration", "chat", "red_team"] | None = None
    overlap: int = Field(default=1, ge=1, le=1000)
    criteria: tuple[str, ...] = ("helpful", "honest", "harmless")
    answers: Literal["keep", "gold", "drop"] = "keep"
    prompt: str = ""
    completions: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    criterion: str = "helpful"
    topic: str = ""
    serves: str = ""
    most_rows: int = Field(default=1_000_000, ge=1)
    most_megabytes: int = Field(default=2048, ge=1)


def read_import(
    path: Path, settings: ImportJob, *, format_name: str | None = None, aside: Path | None = None
) -> Collected:
    """All items of one file; DataError before anything is kept. Bad rows go to the file `aside`; None: they stop it."""
    refuse_large(path, settings.most_megabytes * _MEBIBYTE)
    limits = ImportLimits(rows=settings.most_rows)
    rows = read_file(path, text_rows="lines").rows
    tool = format_name or tool_of([row.fields for row in rows if row.problem is None][:100])
    if tool in TOOLS:
        readers = {
            "items": read_own,
            "argilla": argilla_reader(
                FieldNames(prompt=settings.prompt, completions=settings.completions, criterion=settings.criterion)
            ),
            "label-studio": label_studio_reader(
                TaskNames(prompt=settings.prompt, completions=settings.completions, buckets=settings.buckets)
            ),
        }
        return _collected(rows, readers[tool], limits, aside)
    return _judged(path, rows, limits, format_name=format_name, aside=aside)


def tool_of(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Which tool wrote rows like these; None: a file of judgement (see the pages on data files)."""
    for fields in rows:
        if "annotations" in fields and "data" in fields:
            return "label-studio"
        if ("fields" in fields and "responses" in fields) or any(str(name).endswith(".responses") for name in fields):
            return "argilla"
        if any(_is_argilla_column(value) for value in fields.values()):
            return "argilla"
        if any(name in fields for name in _JUDGED):
            return None
        if "prompt" in fields and (
            any(name in fields for name in _LISTS) or "completion_1" in fields or set(fields) <= {"prompt", "topic"}
        ):
            return "items"
    return None


def _is_argilla_column(value: object) -> bool:
    one = value[0] if isinstance(value, list) and value else value
    return isinstance(one, Mapping) and {"value", "user_id"} <= one.keys()


def _row(row: SourceRow) -> ImportRow:
    fields = dict(row.fields)
    if set(fields) == {"text"}:  # a line of a text file is a prompt
        fields = {"prompt": fields["text"]}
    return ImportRow(place=row.place, fields=fields, problem=row.problem)


def _collected(
    rows: Sequence[SourceRow],
    read: Callable[[Mapping[str, Any], ImportLimits], Imported],
    limits: ImportLimits,
    aside: Path | None,
) -> Collected:
    collected = collect(map(_row, rows), read, limits=limits, on_bad_row="stop" if aside is None else "skip")
    if aside is not None and collected.bad:
        by_place = {row.place: row for row in rows}
        set_aside([(by_place[row.place], reason) for row, reason in collected.bad], aside)
        return replace(collected, notes=(*collected.notes, _lies(aside)))
    return collected


def _judged(
    path: Path, rows: Sequence[SourceRow], limits: ImportLimits, *, format_name: str | None, aside: Path | None
) -> Collected:
    found = format_named(format_name) if format_name else detect(rows)
    if found.kind in (Kind.PROMPTS, Kind.TEXTS):
        return _collected(rows, read_own, limits, aside)
    if len(rows) > limits.rows:
        raise DataError(f"there are more than {limits.rows:,} rows", where=str(path), now="Import it in parts.")
    options = ReadOptions(format=found.name, on_bad_row="stop" if aside is None else "skip", bad_rows_to=aside)
    data = _LOAD[found.kind](path, options)
    try:
        imported = imported_of(data.examples, who=path.name, limits=limits)
    except DataError as error:
        raise DataError(error.what, where=str(path), now=error.now or "Nothing was imported.") from error
    return Collected(imported=imported, notes=(*data.notes, _lies(aside)) if data.bad_rows and aside else data.notes)


def _lies(aside: Path) -> str:
    return f"the bad rows lie in {aside}"


def refuse_large(path: Path, most_bytes: int) -> None:
    """DataError for a file that is larger than allowed, packed or unpacked; looked at in pieces."""
    refusal = DataError(
        f"the file holds more than {most_bytes // _MEBIBYTE:,} MiB",
        where=str(path),
        now="Import it in parts, or raise the limit with --set most_megabytes=N.",
    )
    try:
        if path.is_file() and path.stat().st_size > most_bytes:
            raise refusal
        if path.is_file() and path.open("rb").read(2) == b"\x1f\x8b":
            seen = 0
            with gzip.open(path) as unpacked:
                while piece := unpacked.read(_CHUNK):
                    seen += len(piece)
                    if seen > most_bytes:
                        raise refusal
    except (OSError, EOFError, zlib.error, ValueError):
        return  # the reading of the file says what is wrong with it
