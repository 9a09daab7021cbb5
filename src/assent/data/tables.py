"""Tables to rows: CSV and TSV, Parquet, and folders that `datasets` saved to disk."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet

from assent.data.literals import parse_cell, parse_messages, parse_row, with_parsed_messages
from assent.data.rows import SourceRow
from assent.errors import DataError
from assent.feedback.exchange.export_files import original_cell
from assent.feedback.exchange.export_rows import ROW_FORMATS, Cell

_TEXTUAL: frozenset[Cell] = frozenset({"text", "number", "integer", "true_false"})
_OWN: dict[tuple[str, ...], Mapping[str, Cell]] = {
    tuple(one.header(models=models)): one.header(models=models)
    for one in ROW_FORMATS.values()
    for models in (False, True)
}
"""The headers of `assent feedback export`, and what their columns hold."""
_AGAIN = "Copy it or export it again."


def csv_rows(text: str, name: str, *, delimiter: str) -> Iterator[SourceRow]:
    """Rows under a header line; a column without a name (an index) is left out.

    What `assent feedback export` did to cells (an apostrophe before what a spreadsheet might run) is undone.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a document may be a cell
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        named = [column for column in header if column]
        if len(set(named)) < len(named):
            double = next(column for column in named if named.count(column) > 1)
            raise DataError(f'the header names the column "{double}" twice', where=f"{name}:1")
        line = reader.line_num + 1
        exported = _exported(header, text) if delimiter == "," else None
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _csv_row(header, cells, f"{name}:{line}", line, exported)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"broken CSV: {error}", where=f"{name}:{reader.line_num}", now=_AGAIN) from error


def _exported(header: list[str], text: str) -> Mapping[str, Cell] | None:
    """What the columns hold if this is an export of ours: its header, with lineage or, as it was written, in quotes."""
    columns = _OWN.get(tuple(header))
    quoted = ",".join(f'"{name}"' for name in header) + "\r\n"
    return columns if columns is not None and ("source" in columns or text.startswith(quoted)) else None


def _csv_row(
    header: list[str], cells: list[str], place: str, line: int, exported: Mapping[str, Cell] | None
) -> SourceRow:
    if len(cells) != len(header):
        problem = f"expected {len(header)} columns as in the header, got {len(cells)}"
        return SourceRow(place=place, number=line, problem=problem)
    try:
        if exported is None:
            texts = {column: cell for column, cell in zip(header, cells, strict=True) if column}
            return SourceRow(place=place, number=line, fields=parse_row(texts), cells=texts)
        original = {column: original_cell(cell) for column, cell in zip(header, cells, strict=True)}
        fields = {name: _exported_cell(cell, name, exported[name]) for name, cell in original.items()}
    except DataError as error:
        return SourceRow(place=place, number=line, problem=error.what)
    return SourceRow(place=place, number=line, fields=fields)


def _exported_cell(cell: str, name: str, kind: Cell) -> object:
    """Text stays text whatever it spells; two formats share their names, and only one of them holds messages."""
    if kind in _TEXTUAL:
        return cell
    if kind == "messages":
        return parse_messages(cell) or cell
    return parse_cell(cell, name)


def parquet_rows(content: bytes, name: str) -> list[SourceRow]:
    """Rows of a Parquet file."""
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"the Parquet file is damaged ({_first_line(error)})", where=name, now=_AGAIN) from error
    return table_rows(table, name)


def arrow_folder_rows(folder: Path) -> tuple[tuple[SourceRow, ...], str]:
    """Rows of a folder written by `Dataset.save_to_disk`, and the SHA-256 over its data files in order."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in folder.iterdir() if (child / "state.json").is_file())
        now = f"Give one of them, e.g. {folder / (splits or ['train'])[0]}."
        raise DataError(f"the folder holds several splits ({', '.join(splits)})", where=str(folder), now=now)
    rows: list[SourceRow] = []
    digest = hashlib.sha256()
    for path in _arrow_files(folder):
        try:
            content = path.read_bytes()
            table = pyarrow.ipc.open_stream(content).read_all()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"the data file is damaged ({_first_line(error)})", where=str(path), now=_AGAIN) from error
        digest.update(content)
        rows += table_rows(table, str(folder), start=len(rows) + 1)
    return tuple(rows), digest.hexdigest()


def _arrow_files(folder: Path) -> list[Path]:
    state = folder / "state.json"
    if not state.is_file():
        files = sorted(child.name for child in folder.iterdir() if child.is_file())
        inside = f"Give one of its files, e.g. {folder / files[0]}." if files else "Give a file."
        raise DataError("this folder is no saved dataset (it has no state.json)", where=str(folder), now=inside)
    try:
        names = [str(entry["filename"]) for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError("the file does not list the data files", where=str(state), now=_AGAIN) from error
    return [folder / Path(name).name for name in names]


def table_rows(table: pyarrow.Table, name: str, *, start: int = 1) -> list[SourceRow]:
    """Rows of a table in memory; `start` is the number of the first."""
    try:
        listed = table.to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"a value cannot be read ({_first_line(error)})", where=name, now=_AGAIN) from error
    return [
        SourceRow(
            place=f"{name}: row {number}", number=number,
            fields=with_parsed_messages({column: _without_filling(value) for column, value in fields.items()}),
        )
        for number, fields in enumerate(listed, start=start)
    ]  # fmt: skip


def _without_filling(value: object) -> object:
    """A nested value without the nulls of its objects: Arrow gives every object the fields of all the others."""
    if isinstance(value, list):
        return [_without_filling(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_filling(each) for name, each in value.items() if each is not None}
    return value


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:160]
