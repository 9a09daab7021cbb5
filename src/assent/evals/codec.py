"""Frozen dataclasses to JSON and back, strictly: no unknown key, no missing key, no silent change of type.

A number that is not finite becomes null where the type allows None and is refused elsewhere, so that the JSON is
readable by every parser.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from assent.errors import DataError

JsonValue = Any  # what json.loads returns; used for settings and lineage, whose shape belongs to others
_Record = TypeVar("_Record")


def dumps(record: object) -> str:
    """Indented JSON of a dataclass."""
    return json.dumps(_encode(record, type(record), "$"), indent=1, allow_nan=False) + "\n"


def loads(text: str, kind: type[_Record], *, where: str) -> _Record:
    """The dataclass `kind` read from JSON text; DataError names the path of what is wrong, `where` the file."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg}", where=f"{where}:{error.lineno}") from error
    try:
        record: _Record = _decode(value, kind, "$")
    except _Mismatch as mismatch:
        raise DataError(str(mismatch), where=where, now="Write the file again with `assent report`.") from mismatch
    return record


class _Mismatch(ValueError):
    """A value that does not fit its type; turned into a DataError with the file's name."""


def _encode(value: Any, kind: Any, path: str) -> JsonValue:
    kind, optional = _without_none(kind)
    if value is None:
        if not optional:
            raise DataError(f"{path} must not be empty")
        return None
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return {name: _encode(getattr(value, name), hint, f"{path}.{name}") for name, hint in hints.items()}
    if get_origin(kind) is tuple:
        return [_encode(item, get_args(kind)[0], f"{path}[{i}]") for i, item in enumerate(value)]
    if get_origin(kind) is Mapping:
        return {str(key): _encode(item, get_args(kind)[1], f"{path}.{key}") for key, item in value.items()}
    if kind is float:
        number = float(value)
        if not math.isfinite(number) and not optional:
            raise DataError(f"{path} is {number}, which no report can show")
        if isinstance(value, int):
            return value  # a step stays 100, not 100.0
        return number if math.isfinite(number) else None
    return _plain(value, path) if kind is Any else kind(value)


def _plain(value: Any, path: str) -> JsonValue:
    """Settings and lineage: plain JSON values; anything else is written as its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[]") for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _decode(value: JsonValue, kind: Any, path: str) -> Any:
    kind, optional = _without_none(kind)
    if value is None and optional:
        return None
    if kind is Any:
        return value
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        entries, hints = _expect(value, dict, "an object", path), get_type_hints(kind)
        if unknown := entries.keys() - hints.keys():
            raise _Mismatch(f'{path} has an unknown key "{min(unknown)}"')
        if missing := hints.keys() - entries.keys():
            raise _Mismatch(f'{path} lacks "{min(missing)}"')
        return kind(**{name: _decode(entries[name], hint, f"{path}.{name}") for name, hint in hints.items()})
    if get_origin(kind) is tuple:
        items = _expect(value, list, "a list", path)
        return tuple(_decode(item, get_args(kind)[0], f"{path}[{i}]") for i, item in enumerate(items))
    if get_origin(kind) is Mapping:
        entries = _expect(value, dict, "an object", path)
        return {key: _decode(item, get_args(kind)[1], f"{path}.{key}") for key, item in entries.items()}
    if kind is float:
        return float(_expect(value, (int, float), "a number", path))
    names = {int: "a whole number", str: "text", bool: "true or false"}
    return _expect(value, kind, names[kind], path)


def _expect(value: JsonValue, kinds: Any, name: str, path: str) -> Any:
    wrong_bool = isinstance(value, bool) and kinds is not bool
    if wrong_bool or not isinstance(value, kinds):
        raise _Mismatch(f"{path}: expected {name}, got {json.dumps(value)[:60]}")
    return value


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type inside `X | None`, and whether None was allowed."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [part for part in get_args(kind) if part is not type(None)]
        return inner[0], True
    return kind, kind is Any
