"""`assent settings COMMAND`: what --set takes, with defaults; also which setting a mistaken flag may mean."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Iterator
from typing import Any, cast

from pydantic.fields import FieldInfo

from assent.algorithms.methods import load_named
from assent.config import Settings
from assent.errors import ConfigError
from assent.recipes.command_table import COMMANDS
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request

_WHERE = "docs/settings.md says what each is for."


def run_settings(request: Request, display: Display) -> None:
    """Print every setting of a command: its name, its default, what it takes."""
    name = " ".join(request.own["of_command"])
    command = COMMANDS.get(name)
    if command is None or not command.settings:
        known = [one for one, other in COMMANDS.items() if other.settings]
        close = difflib.get_close_matches(name, known, n=1)
        now = f'Did you mean "{close[0]}"?' if close else f"There are: {', '.join(known)}."
        raise ConfigError(f'there are no settings of "{name}"', now=now)
    rows = [(path, _told(field.get_default(call_default_factory=True)), _takes(field))
            for path, field in fields_of(_class(name, command.settings))]  # fmt: skip
    wide, value = max(len(row[0]) for row in rows), min(18, max(len(row[1]) for row in rows))
    print(f"{'setting':<{wide}}  {'default':<{value}}  takes")
    for path, default, takes in rows:
        print(f"{path:<{wide}}  {default:<{value}}  {takes}".rstrip())
    print(f"\n--set {rows[0][0]}={rows[0][1] or 'VALUE'}, or --settings FILE.toml. {_WHERE}")


def setting_like(name: str, place: str, setting: str) -> str | None:
    """The command's setting that is called so, or whose last part is; None if there is none."""
    known = [path for path, _ in fields_of(_class(name, place))]
    if setting in known:
        return setting
    ends = [path for path in known if path.rpartition(".")[2] == setting]
    close = difflib.get_close_matches(setting, known, n=1, cutoff=0.8)
    return ends[0] if len(ends) == 1 else close[0] if close else None


def fields_of(cls: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its path; those of a section one by one."""
    for name, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from fields_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _class(name: str, place: str) -> type[Settings]:
    found = load_named(place)
    chosen: Any = found if inspect.isclass(found) else found(name)
    return cast(type[Settings], chosen)


def _told(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool | dict | tuple):
        return json.dumps(list(default) if isinstance(default, tuple) else default, default=str)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _takes(field: FieldInfo) -> str:
    """The type in words, with the bounds of numbers."""
    text = str(field.annotation).replace("typing.", "").replace("<class '", "").replace("'>", "")
    if text.startswith("Literal["):
        text = " or ".join(one.strip(" '") for one in text[8:-1].split(","))
    text = "true or false" if text == "bool" else text
    names = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in names.items()
        if hasattr(bound, name)
    ]
    return ", ".join([text.replace(" | None", " or none"), *bounds])
