"""Strict settings from TOML files and `--set a.b=c`. Every mistake is one readable ConfigError."""

from __future__ import annotations

import difflib
import hashlib
import json
import numbers
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args

import pydantic
from pydantic_core import ErrorDetails, to_jsonable_python

from assent.errors import ConfigError

_SHOWN_ERRORS = 8
_SHOWN_CHARACTERS = 60


class Settings(pydantic.BaseModel):
    """Base of all settings: frozen, no unknown keys, no silent conversions (except from int to float)."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


Chosen = TypeVar("Chosen", bound=Settings)


def parse(
    cls: type[Chosen], *, file: Path | None = None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Chosen:
    """Settings of type `cls`: the defaults, then `base`, then the TOML `file`, then `overrides` of the form "a.b=c".

    The value of an override is TOML; a value that is not TOML is plain text. Raises ConfigError.
    """
    sources = _Sources(file=file, overrides=overrides, base=base)
    while True:
        try:  # as JSON: lists may stand for tuples and text for paths and enumerations, nothing else is converted
            return cls.model_validate_json(json.dumps(to_jsonable_python(sources.merged())))
        except pydantic.ValidationError as error:
            if not sources.take_as_written(error.errors()):
                raise _readable(cls, sources, error) from None


def as_dict(settings: Settings | Mapping[str, Any]) -> dict[str, Any]:
    """Settings as plain JSON values."""
    plain = settings.model_dump(mode="json") if isinstance(settings, Settings) else to_jsonable_python(dict(settings))
    assert isinstance(plain, dict)
    return plain


def fingerprint(settings: Settings | Mapping[str, Any]) -> str:
    """The sha256 of the settings as canonical JSON: equal settings have equal fingerprints, in any order of keys."""
    text = json.dumps(as_dict(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed, one line per key in order of its path: `ppo.learning_rate: 0.001 -> 0.002`."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{path}: {_show(before[path]) if path in before else 'absent'} -> "
        f"{_show(after[path]) if path in after else 'absent'}"
        for path in sorted(before.keys() | after.keys())
        if (path in before) != (path in after) or not _same(before[path], after[path])
    ]


class _Sources:
    """Where values come from, so that a message can name the file and line or the --set that is wrong."""

    def __init__(self, *, file: Path | None, overrides: Sequence[str], base: Mapping[str, Any] | None) -> None:
        self._file, self._base = file, _plain(base or {}, "")
        self._text, self._table = _read(file) if file else ("", {})
        self._overrides = [(*_split(override), override) for override in overrides]

    def merged(self) -> dict[str, Any]:
        """One table of all sources; later ones win."""
        table = merge(self._base, self._table)
        for path, value, _ in self._overrides:
            nested: Any = value
            for key in reversed(path):
                nested = {key: nested}
            table = merge(table, nested)
        return table

    def take_as_written(self, errors: Sequence[ErrorDetails]) -> bool:
        """Where text is expected, use the override's text; where a list is expected, split it at commas.

        Returns False if that changes nothing.
        """
        wanted = {tuple(map(str, detail["loc"])): detail["type"] for detail in errors}
        before = list(self._overrides)
        for number, (path, value, written) in enumerate(before):
            text = written.split("=", 1)[1].strip()
            if wanted.get(path) == "string_type" and value != str(value):
                self._overrides[number] = path, text, written
            elif wanted.get(path) in ("tuple_type", "list_type") and not isinstance(value, dict):
                try:
                    items = tomllib.loads(f"value = [{text}]")["value"]
                except tomllib.TOMLDecodeError:
                    items = [word.strip() for word in text.split(",")]
                self._overrides[number] = path, items, written
        return self._overrides != before

    def place(self, path: tuple[str, ...]) -> str:
        """Where the value at `path` was given."""
        for given, _, written in reversed(self._overrides if path else []):
            if given[: len(path)] == path or path[: len(given)] == given:
                return f"--set {written}"
        if self._file and _reaches(self._table, path):
            line = _line_of(self._text, path)
            return f"{self._file}:{line}" if line else str(self._file)
        return str(self._file) if self._file and not self._base else "settings"


def _plain(value: Any, path: str) -> Any:
    """A value from a program as a value that a file could hold. A function, for example, raises ConfigError."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Settings):
        return as_dict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one, f"{path}.{name}".removeprefix(".")) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{path}.{place}") for place, one in enumerate(value)]
    if isinstance(value, numbers.Real):  # of NumPy
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    kind = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise ConfigError(
        f'setting "{path}": expected text, a number, true or false, a list or a table, got {kind}', where="settings"
    )


def _readable(cls: type[Settings], sources: _Sources, error: pydantic.ValidationError) -> ConfigError:
    table = sources.merged()
    found = [(_path_in(table, detail), detail) for detail in error.errors()]
    listed = list(dict.fromkeys(f"{sources.place(path)}: {_explain(cls, path, detail)}" for path, detail in found))
    if len(listed) == 1:
        where, what = listed[0].split(": ", 1)
        return ConfigError(what, where=where)
    shown = "".join(f"\n  {line}" for line in listed[:_SHOWN_ERRORS])
    more = f"\n  and {len(listed) - _SHOWN_ERRORS} more" if len(listed) > _SHOWN_ERRORS else ""
    return ConfigError(f"{len(listed)} settings are invalid:{shown}{more}")


def _explain(cls: type[Settings], path: tuple[str, ...], detail: ErrorDetails) -> str:
    name = ".".join(path) or "settings"
    if detail["type"] == "extra_forbidden":
        return f'unknown setting "{name}"{_suggest(cls, path)}'
    if detail["type"] == "missing":
        return f'the setting "{name}" is missing'
    reason = (
        detail["msg"]
        .replace("Input should be", "expected")
        .replace("an object", "a table")
        .replace("a valid array", "a list")
        .removeprefix("Value error, ")
    )
    got = "" if detail["type"] == "value_error" and isinstance(detail["input"], Mapping) else detail["input"]
    return f'setting "{name}": {reason[:1].lower()}{reason[1:]}' + ("" if got == "" else f", got {_show(got)}")


def _suggest(cls: type[Settings], path: tuple[str, ...]) -> str:
    known = list(_known_paths(cls))
    name = ".".join(path)
    same_leaf = [candidate for candidate in known if candidate.rpartition(".")[2] == path[-1]]
    siblings = [candidate for candidate in known if candidate.rpartition(".")[0] == ".".join(path[:-1])]
    same_word = [candidate for candidate in siblings if candidate.split("_")[0] == name.split("_")[0] != name]
    near = difflib.get_close_matches(name, siblings, n=1, cutoff=0.8) or same_word
    near = near or difflib.get_close_matches(name, siblings, n=1) or difflib.get_close_matches(name, known, n=1)
    best = near or same_leaf[:1]
    if best:
        return "; did you mean " + " or ".join(f'"{one}"' for one in best) + "?"
    return f"; known here: {', '.join(sorted(siblings))}" if siblings else ""


def _known_paths(annotation: object, prefix: str = "") -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        for name, field in annotation.model_fields.items():
            yield prefix + name
            yield from _known_paths(field.annotation, f"{prefix}{name}.")
    for argument in get_args(annotation):
        yield from _known_paths(argument, prefix)


def _path_in(table: Mapping[str, Any], detail: ErrorDetails) -> tuple[str, ...]:
    """The error's location without the names pydantic adds for the members of a union."""
    path: list[str] = []
    value: Any = table
    for part in detail["loc"]:
        if detail["type"] == "missing" and part == detail["loc"][-1]:
            path.append(str(part))
        elif part in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(part, int):
            value = value[part]
            path.append(str(part))
    return tuple(path)


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    """The text of a settings file and what it holds."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("there is no such settings file", where=str(file), now="Check the path.") from None
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text (byte {error.start})"
        raise ConfigError(what, where=str(file), now="Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(file)) from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = int(found[1]) if found else max(1, text.count("\n") + (not text.endswith("\n")))
        reason = re.sub(r" \(at .*\)$", "", str(error))
        now = "Settings files are TOML: `name = value`, text in quotes, sections as [name]."
        raise ConfigError(f"not valid TOML: {reason}", where=f"{file}:{line}", now=now) from None


def _split(override: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError("expected a name, = and a value", where=f"--set {override}", now="Example: --set seed=3.")
    try:
        table = tomllib.loads(f"value = {text.strip()}")
    except tomllib.TOMLDecodeError:
        return path, text.strip()
    return path, table["value"] if table.keys() == {"value"} else text.strip()


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two tables section by section; `over` wins."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _reaches(table: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if isinstance(table, list) and key.isdecimal() and int(key) < len(table):
            table = table[int(key)]
        elif isinstance(table, Mapping) and key in table:
            table = table[key]
        else:
            return False
    return bool(path)


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line that sets `path` (or a table holding it), for files that write keys and tables plainly."""
    section: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([^\[\]]+?)\s*\]", line):
            section = tuple(part.strip(" \"'") for part in header[1].split("."))
            here = section
        elif assignment := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = (*section, *(part.strip("\"'") for part in assignment[1].split(".")))
        else:
            continue
        if path[: len(here)] == here and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return best[1] if best else None


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _same(old: Any, new: Any) -> bool:
    both_nan = old != old and new != new
    return isinstance(old, bool) == isinstance(new, bool) and bool(both_nan or old == new)


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
