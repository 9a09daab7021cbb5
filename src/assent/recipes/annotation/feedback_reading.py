"""Files of `assent feedback import`: which tool wrote them, and their rows as items with answers."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assent.config import Settings
from assent.data.columns import Columns, TrackedFields, is_answer_column, is_label_column
from assent.data.examples import Format, Kind
from assent.data.files import read_file
from assent.data.formats import detect, format_named, format_of
from assent.data.listwise_formats import LABEL_KEYS
from assent.data.load import (
    BadRow,
    Dataset,
    ReadOptions,
    load_comparisons,
    load_demonstrations,
    load_rankings,
    load_ratings,
)
from assent.data.message_trees import assemble_trees
from assent.data.nested import nested_labels
from assent.data.rows import SourceRow
from assent.errors import DataError
from assent.feedback.exchange.argilla import FieldNames, is_column, read_argilla
from assent.feedback.exchange.imported_items import ImportedItem, ImportLimits, ImportRow, collect, import_notes
from assent.feedback.exchange.label_studio import TaskNames, read_label_studio
from assent.feedback.exchange.own_rows import read_own
from assent.feedback.exchange.preference_rows import imported_of
from assent.feedback.records import NewItem
from assent.recipes.run.reading_settings import Reading
from assent.types import Conversation

_LOAD: dict[Kind, Callable[[Path, ReadOptions], Dataset[Any]]] = {
    Kind.COMPARISONS: load_comparisons,
    Kind.RANKINGS: load_rankings,
    Kind.RATINGS: load_ratings,
    Kind.DEMONSTRATIONS: load_demonstrations,
}
_LISTS = ("completions", "candidates", "responses", "answers")
_MEBIBYTE = 1 << 20
_SHOWN_NAMES = 8
_CHUNK = 1 << 20


class ImportJob(Settings):
    """`assent feedback import`. `mode` and what follows it are for a project that is not there yet.

    `answers` says what becomes of answers in the file: kept as answers of people named after whoever gave them, made
    the known answers of control items, or dropped, so that the items are asked anew. `reading` names columns;
    `prompt` is short for `reading.prompt`. `completions` (several fields) and `buckets` (best first) name what holds
    the completions where their names do not say it.
    """

    mode: Literal["ranking", "pairwise", "rating", "good_bad", "demonstration", "chat", "red_team"] | None = None
    overlap: int = Field(default=1, ge=1, le=1000)
    criteria: tuple[str, ...] = ("helpful", "honest", "harmless")
    answers: Literal["keep", "control", "drop"] = "keep"
    prompt: str = ""
    completions: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    criterion: str = "helpful"
    topic: str = ""
    serves: str = ""
    most_rows: int = Field(default=1_000_000, ge=1)
    most_megabytes: int = Field(default=2048, ge=1)
    reading: Reading = Reading()

    @property
    def columns(self) -> Columns:
        """The file's names for its columns."""
        return self.reading.model_copy(update={"prompt": self.reading.prompt or self.prompt})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFile:
    """What one file holds: items with answers, rows set aside with their reasons, and remarks for people."""

    imported: tuple[ImportedItem, ...]
    bad: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()


def read_import(path: Path, settings: ImportJob, *, format_name: str | None = None, skip: bool = False) -> ImportFile:
    """All items of one file; DataError before anything is kept. Bad rows stop the reading, or are given back."""
    refuse_large(path, settings.most_megabytes * _MEBIBYTE)
    rows = read_file(path, text_rows="lines").rows
    if len(rows) > settings.most_rows:
        raise DataError(f"there are more than {settings.most_rows:,} rows", where=str(path), now="Import it in parts.")
    tool = format_name or tool_of(rows)
    if tool in ("argilla", "label-studio"):
        return _of_tool(rows, tool, settings, str(path), skip=skip)
    rows = settings.columns.applied(assemble_trees(rows), str(path))
    if settings.completions:
        rows = tuple(_listed(row, settings.completions) for row in rows)
    tool = format_name or tool_of(rows)
    found = None if tool == "items" else format_named(format_name) if format_name else detect(rows)
    if found is not None and found.kind in _LOAD:
        return _with_answers(path, rows, found, settings, named=format_name is not None, skip=skip)
    if found is not None and found.kind not in (Kind.PROMPTS, Kind.TEXTS) and settings.answers != "drop":
        what = f"the file holds {found.kind.value} (format {found.name}), and a store cannot keep them"
        now = "Nothing was imported. --set answers=drop takes the prompts alone."
        raise DataError(what, where=str(path), now=now)
    return _without_answers(rows, found, settings, str(path), skip=skip)


def _of_tool(rows: Sequence[SourceRow], tool: str, settings: ImportJob, place: str, *, skip: bool) -> ImportFile:
    columns = settings.columns
    if other := [name for name in columns.named() if name != "prompt"]:
        now = "Give reading.prompt, completions, buckets or criterion."
        raise DataError(f"a file of {tool} has no columns to name (reading.{other[0]})", where=place, now=now)
    chosen: dict[str, Any] = {"prompt": columns.prompt, "completions": settings.completions}
    if tool == "argilla":
        names = FieldNames(**chosen, criterion=settings.criterion)
        return _collected(rows, partial(read_argilla, names=names), settings, skip=skip)
    tasks = TaskNames(**chosen, buckets=settings.buckets)
    return _collected(rows, partial(read_label_studio, names=tasks), settings, skip=skip)


def _without_answers(
    rows: Sequence[SourceRow], found: Format | None, settings: ImportJob, place: str, *, skip: bool
) -> ImportFile:
    """Items without answers. Columns of answers or labels that would be lost are an error."""
    lost: dict[str, None] = {}

    def read(fields: Mapping[str, Any], limits: ImportLimits) -> ImportedItem:
        watched = TrackedFields(fields)
        if found is not None and not {"prompt", "messages"} & fields.keys():
            (prompt,) = (found.read_prompts or found.read)(watched)
            told = prompt if isinstance(prompt, Conversation) else Conversation.of_user(str(prompt).strip())
            one = ImportedItem(item=NewItem(prompt=told))
        else:
            one = read_own(watched, limits)
        lost.update(dict.fromkeys(name for name in watched.unread() if is_label_column(name) or is_answer_column(name)))
        lost.update(dict.fromkeys(nested_labels(fields)))
        return one

    collected = _collected(rows, read, settings, skip=skip)
    if lost and settings.answers != "drop":
        raise _would_be_lost(list(lost), place)
    return collected


def _would_be_lost(names: Sequence[str], place: str, *, otherwise: str = "") -> DataError:
    what = f"the file has fields with labels or answers that would be lost: {', '.join(names[:_SHOWN_NAMES])}"
    now = "Nothing was imported. Name what they hold, e.g. --set reading.label=COLUMN (docs/data.md); "
    return DataError(what, where=place, now=f"{now}{otherwise}or --set answers=drop to ask anew.")


def _listed(row: SourceRow, names: Sequence[str]) -> SourceRow:
    """The row with the named fields as its list of completions."""
    missing = [name for name in names if name not in row.fields]
    if row.problem or missing:
        return row if row.problem else replace(row, problem=f'field "{missing[0]}" is missing (completions)')
    kept = {name: value for name, value in row.fields.items() if name not in names}
    return replace(row, fields={**kept, "completions": [row.fields[name] for name in names]})


def tool_of(rows: Sequence[SourceRow]) -> str | None:
    """Which tool wrote rows like these; None: a file of preferences or of prompts (see the pages on data files)."""
    for fields in [row.fields for row in rows if row.problem is None][:100]:
        if "annotations" in fields and "data" in fields:
            return "label-studio"
        if ("fields" in fields and "responses" in fields) or any(str(name).endswith(".responses") for name in fields):
            return "argilla"
        if any(is_column(value[0] if isinstance(value, list) and value else value) for value in fields.values()):
            return "argilla"
        found = format_of(SourceRow(place="", number=1, fields=fields))
        if found is not None and found.kind not in (Kind.PROMPTS, Kind.TEXTS):
            return None
        if "prompt" in fields and (
            any(name in fields for name in _LISTS) or "completion_1" in fields or set(fields) <= {"prompt", "topic"}
        ):
            return "items"
    return None


def _collected(
    rows: Sequence[SourceRow],
    read: Callable[[Mapping[str, Any], ImportLimits], ImportedItem],
    settings: ImportJob,
    *,
    skip: bool,
) -> ImportFile:
    plain = (  # a line of a text file is a prompt
        replace(row, fields={"prompt": row.fields["text"]}) if set(row.fields) == {"text"} else row for row in rows
    )
    collected = collect(
        (ImportRow(place=row.place, fields=dict(row.fields), problem=row.problem) for row in plain),
        read,
        limits=ImportLimits(rows=settings.most_rows),
        on_bad_row="skip" if skip else "stop",
        answers_wanted=settings.answers != "drop",
    )
    by_place = {row.place: row for row in rows}
    bad = tuple((by_place[row.place], reason) for row, reason in collected.bad)
    return ImportFile(imported=collected.imported, bad=bad, notes=collected.notes)


def _with_answers(
    path: Path, rows: Sequence[SourceRow], found: Format, settings: ImportJob, *, named: bool, skip: bool
) -> ImportFile:
    reading = settings.reading
    options = ReadOptions(
        format=found.name,
        on_bad_row="skip" if skip else "stop",
        positive_labels=reading.positive_labels,
        negative_labels=reading.negative_labels,
        keep_ties=reading.keep_ties,
        columns=settings.columns,
    )
    data = _LOAD[found.kind](path, options)
    nested = _nested(rows, found.kind)
    lost = [*data.unread, *nested]
    if found.kind is Kind.DEMONSTRATIONS and lost and not named and settings.answers != "drop":
        otherwise = f"--format {found.name} keeps the demonstrations all the same, "
        raise _would_be_lost(lost, str(path), otherwise=otherwise)
    try:
        imported = imported_of(data.examples, who=path.name, limits=ImportLimits(rows=settings.most_rows))
    except DataError as error:
        raise DataError(error.what, where=str(path), now=error.now or "Nothing was imported.") from error
    unread = (f"not used, though it looks like a label: {', '.join(nested[:_SHOWN_NAMES])}",) if nested else ()
    return ImportFile(imported=imported, bad=data.bad, notes=(*data.notes, *unread, *import_notes(imported)))


def _nested(rows: Sequence[SourceRow], kind: Kind) -> tuple[str, ...]:
    """Labels inside lists and objects that nothing is read from: with rankings, one name inside completions is."""
    if kind not in (Kind.DEMONSTRATIONS, Kind.RANKINGS):
        return ()
    found = list(dict.fromkeys(path for row in rows if row.problem is None for path in nested_labels(row.fields)))
    names = LABEL_KEYS if kind is Kind.RANKINGS else ()
    read = next((path for name in names for path in found if path.endswith(f"[].{name}")), None)
    return tuple(path for path in found if path != read)


def refuse_large(path: Path, most_bytes: int) -> None:
    """DataError for a file that is larger than allowed, packed or unpacked; looked at in pieces."""
    try:
        large = path.is_file() and (path.stat().st_size > most_bytes or _unpacks_to_more(path, most_bytes))
    except (OSError, EOFError, zlib.error, ValueError):
        return  # the reading of the file says what is wrong with it
    if large:
        now = "Import it in parts, or raise the limit with --set most_megabytes=N."
        raise DataError(f"the file holds more than {most_bytes // _MEBIBYTE:,} MiB", where=str(path), now=now)


def _unpacks_to_more(path: Path, most_bytes: int) -> bool:
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return False
    seen = 0
    with gzip.open(path) as unpacked:
        while seen <= most_bytes and (piece := unpacked.read(_CHUNK)):
            seen += len(piece)
    return seen > most_bytes
