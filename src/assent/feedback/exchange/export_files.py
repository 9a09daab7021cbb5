"""Files of rows, written as they come and there only when whole: JSON lines, JSON, CSV that starts no formula, Parquet.

The same rows give the same bytes: nothing of the time or the machine goes in.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from assent.durable import whole_file, writing
from assent.errors import ConfigError, StoreError
from assent.feedback.exchange.export_rows import Cell, Row

# what a spreadsheet may take for the start of a formula; with the full-width forms
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_ROW_GROUP = 2000

_MESSAGE = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
_ARROW: dict[Cell, pyarrow.DataType] = {
    "text": pyarrow.string(),
    "number": pyarrow.float64(),
    "integer": pyarrow.int64(),
    "true_false": pyarrow.bool_(),
    "texts": pyarrow.list_(pyarrow.string()),
    "integers": pyarrow.list_(pyarrow.int64()),
    "messages": pyarrow.list_(_MESSAGE),
    "learned_messages": pyarrow.list_(pyarrow.struct([*_MESSAGE, ("weight", pyarrow.int64())])),
    "json": pyarrow.string(),
}


def write_rows(path: Path, rows: Iterable[Row], columns: Mapping[str, Cell]) -> int:
    """Write `path` in the form that its ending names and return the number of rows; no row: StoreError, no file.

    What was at `path` stays until the new file is whole and on the disk.
    """
    writers = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    write = writers.get(path.suffix.lower())
    if write is None:
        what, now = f'there is no way to write "{path.suffix or path.name}"', f"End the name in {', '.join(writers)}."
        raise ConfigError(what, where=str(path), now=now)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        count = write(file, rows, columns)
        if not count:
            now = "Nothing was written. Is it the right format?"
            raise StoreError("no standing answer gives such rows", where=str(path), now=now)
    return count


def safe_cell(text: str) -> str:
    """`text` so that no spreadsheet takes it for a formula: an apostrophe goes before what could start one.

    One more also goes before apostrophes that stand before such a start, so that `original_cell` gets the text back.
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def original_cell(cell: str) -> str:
    """The reverse of `safe_cell`."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _json_lines(file: BinaryIO, rows: Iterable[Row], columns: Mapping[str, Cell]) -> int:
    count = 0
    for row in rows:
        file.write(f"{_line(row)}\n".encode())
        count += 1
    return count


def _json(file: BinaryIO, rows: Iterable[Row], columns: Mapping[str, Cell]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):
        file.write(f"{',' if count > 1 else '['}\n{_line(row)}".encode())
    file.write(b"\n]\n")
    return count


def _csv(file: BinaryIO, rows: Iterable[Row], columns: Mapping[str, Cell]) -> int:
    """Every cell in quotes, so that none is cut in two where another separator is the custom."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow(columns)
    count = 0
    for row in rows:
        table.writerow([safe_cell(_cell(row[name])) for name in columns])
        count += 1
    text.flush()
    text.detach()
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _line(value)


def _parquet(file: BinaryIO, rows: Iterable[Row], columns: Mapping[str, Cell]) -> int:
    schema = pyarrow.schema([(name, _ARROW[cell]) for name, cell in columns.items()])
    count = 0
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as table:
        stream = iter(rows)
        while part := list(itertools.islice(stream, _ROW_GROUP)):
            cells = {
                name: [_line(row[name]) if kind == "json" else row[name] for row in part]
                for name, kind in columns.items()
            }
            table.write_table(pyarrow.table(cells, schema=schema))
            count += len(part)
    return count
