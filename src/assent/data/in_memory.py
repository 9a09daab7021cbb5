"""Rows in memory: lists, columns, data frames, Arrow tables, data sets, generators.

This imports none of their libraries: it recognises a table by the method that converts it to plain Python.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assent.data.files import SourceFile
from assent.data.rows import SourceRow
from assent.errors import DataError

PLACE = "data"
ACCEPTED = (
    "a path, a list of dicts, a dict of columns, a data frame (pandas, polars), a pyarrow table, a datasets.Dataset, "
    "or examples of assent.types"
)
_TO_LIST = ("to_pylist", "to_dicts", "to_list", "tolist")  # of pyarrow, polars, datasets and Series, NumPy
_HOLDERS = ("data", "rows", "examples", "train")
_SPLITS = ("train", "test", "validation", "valid", "eval", "dev")


def listed(data: object) -> list[Any]:
    """The rows of `data` in any container, as a list. Raises DataError."""
    if isinstance(data, str | bytes | bytearray | type) or hasattr(data, "read"):
        raise _refused(data)
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return _of_pandas(data)
    if hasattr(data, "collect_schema") and hasattr(data, "collect"):
        return listed(data.collect())
    if dataclasses.is_dataclass(data) or hasattr(data, "_asdict"):
        return [data]
    for name in _TO_LIST:
        if hasattr(data, name):
            rows = getattr(data, name)()
            return rows if isinstance(rows, list) else [rows]
    if not isinstance(data, Iterable):
        raise _refused(data)
    rows = list(data)
    return [{"messages": rows}] if rows and all(_is_message(row) for row in rows) else rows


def rows_in_memory(rows: Iterable[object]) -> SourceFile:
    """Rows as those of a file. A text is one row, a list of messages is one conversation. Raises DataError."""
    read = tuple(_row(row, number) for number, row in enumerate(rows, start=1))
    if not read:
        raise DataError("there are no rows", where=PLACE, now="Give at least one.")
    if all(row.problem for row in read):
        raise DataError(read[0].problem or "", where=read[0].place, now=f"Give {ACCEPTED}.")
    return SourceFile(path=PLACE, sha256="", rows=read)


def called(value: object) -> str:
    """What a value is, for an error message: its type, or the text itself if it is short."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str):
        return f'the text "{value}"' if len(value) <= 40 else f'the text "{value[:37]}..."'
    kind = type(value)
    module = kind.__module__.partition(".")[0].lstrip("_")
    inner = "" if module == "builtins" else f"{module}."
    article = "an" if (inner or kind.__name__)[0].lower() in "aeiou" else "a"
    return f"{article} {inner}{kind.__name__}"


def _refused(data: object) -> DataError:
    if isinstance(data, type):
        return DataError("this is a class, not data", where=PLACE, now=f"Give an object of it: {data.__name__}(...).")
    if hasattr(data, "read"):
        return DataError("this is an open file", where=PLACE, now="Give its path.")
    return DataError(f"{called(data)} holds no rows", where=PLACE, now=f"Give {ACCEPTED}.")


def _of_mapping(data: Mapping[Any, Any]) -> list[Any]:
    """Columns of equal length, a single row, or the only split of a data set."""
    splits = [str(name) for name, value in data.items() if _is_table(value)]
    named = [str(name) for name, value in data.items() if str(name) in _SPLITS and _is_rows(value)]
    if len(data) > 1 and len(splits or named) == len(data):
        raise DataError(
            f"this holds several splits: {', '.join(splits or named)}", where=PLACE,
            now=f'Give one of them, e.g. data["{(splits or named)[0]}"].',
        )  # fmt: skip
    if len(data) == 1:
        ((name, held),) = data.items()
        if splits or (name in _HOLDERS and _is_rows(held)):
            return listed(held)
    return _rows_of(data)


def _rows_of(data: Mapping[Any, Any]) -> list[Any]:
    columns = {name: _plain(value) for name, value in data.items()}
    lists = {name: value for name, value in columns.items() if isinstance(value, list)}
    whole = [name for name, cells in lists.items() if cells and all(_is_message(cell) for cell in cells)]
    scored = {"text", "score"} <= lists.keys() and all(isinstance(cell, str) for cell in lists["text"])
    if len(lists) < len(columns) or whole or scored or not lists:
        return [columns]
    lengths = {len(cells) for cells in lists.values()}
    if len(lengths) > 1:
        lengths_of = ", ".join(f"{name} has {len(cells)}" for name, cells in lists.items())
        raise DataError(
            f"the columns have different lengths: {lengths_of}", where=PLACE, now="Give every row every column."
        )
    return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]


def _of_pandas(frame: Any) -> list[Any]:
    if frame.columns.has_duplicates:
        double = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f'two columns are called "{double}"', where=PLACE, now="Rename one of them.")
    rows: list[Any] = frame.astype(object).to_dict("records")
    return [{name: None if _is_missing(value) else value for name, value in row.items()} for row in rows]


def _row(row: object, number: int) -> SourceRow:
    place = f"row {number}"
    if hasattr(row, "_asdict"):
        row = row._asdict()
    elif dataclasses.is_dataclass(row) and not isinstance(row, type):
        row = {one.name: getattr(row, one.name) for one in dataclasses.fields(row)}
    elif isinstance(row, list | tuple) and row and all(_is_message(one) for one in row):
        row = {"messages": row}
    elif isinstance(row, str):
        row = {"text": row}
    if isinstance(row, Mapping):
        return SourceRow(place=place, number=number, fields={str(key): _plain(cell) for key, cell in row.items()})
    problem = f"expected a dict with named fields, got {called(row)}"
    if isinstance(row, list | tuple):
        problem += '; write {"prompt": ..., "chosen": ..., "rejected": ...}, because the order is not guessed'
    return SourceRow(place=place, number=number, problem=problem)


def _plain(cell: Any) -> Any:
    """A cell as JSON: arrays, series and tuples become lists, numbers of other libraries become Python's."""
    if cell is None or isinstance(cell, str | bool | int | float):
        return cell
    if isinstance(cell, Mapping):
        return {str(key): _plain(value) for key, value in cell.items()}
    if isinstance(cell, Sequence) and not isinstance(cell, bytes | bytearray):
        return [_plain(value) for value in cell]
    for name in _TO_LIST:
        if hasattr(cell, name) and not isinstance(cell, type):
            return _plain(getattr(cell, name)())
    return cell


def _is_missing(value: object) -> bool:
    """Whether this is a missing value of pandas: NaN, NaT or NA."""
    return (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType")


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and (
        {"role", "content"} <= value.keys()
        or {"from", "value"} <= value.keys()
        or {"role", "tool_calls"} <= value.keys()
    )


def _is_table(value: object) -> bool:
    return hasattr(value, "column_names") or (hasattr(value, "columns") and hasattr(value, "__len__"))


def _is_rows(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(row, Mapping) for row in value)
