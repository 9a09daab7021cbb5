"""Code of the user's that a flag names: FILE.py:NAME, or package.module:NAME."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from assent.durable import sha256_file
from assent.errors import ConfigError
from assent.recipes.run.reward_code import imported


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCode:
    """A function or class, what the lineage calls it, and the hash of the file it stands in (empty: it has none)."""

    value: Any
    name: str
    sha256: str


def is_code(name: str, *, flag: str) -> bool:
    """Whether a name means Python code."""
    module, colon, inner = name.rpartition(":")
    if name.endswith(".py"):
        raise ConfigError("this is a Python file", where=name, now=f"Name what is meant in it: {flag} {name}:NAME.")
    return bool(colon and module and inner.isidentifier())


def named_code(name: str, *, flag: str, kind: Literal["function", "class"]) -> NamedCode:
    """What `FILE.py:NAME` or `package.module:NAME` means. Raises ConfigError."""
    module_name, _, inner = name.rpartition(":")
    module = _load_file(Path(module_name), flag) if module_name.endswith(".py") else _load_module(module_name, flag)
    value = getattr(module, inner, None)
    if not callable(value):
        known = [key for key, one in vars(module).items() if callable(one) and not key.startswith("_")]
        hint = f"It has: {', '.join(known[:8])}." if known else f"It defines no {kind}."
        raise ConfigError(f'there is no {kind} "{inner}" in it', where=module_name, now=hint)
    file = Path(str(module.__file__)) if getattr(module, "__file__", None) else None
    return NamedCode(
        value=value, name=f"{Path(module_name).name}:{inner}", sha256=sha256_file(file) if file is not None else ""
    )


def _load_module(name: str, flag: str) -> ModuleType:
    now = f"For a file, write {flag} FILE.py:NAME."
    return imported(partial(importlib.import_module, name), where=name, failed="the module cannot be imported", now=now)


def _load_file(path: Path, flag: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError("there is no such Python file", where=str(path), now=f"Check the path of {flag}.")
    spec = importlib.util.spec_from_file_location(f"assent_{flag.lstrip('-')}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(path.resolve().parent))  # so that it can import what lies beside it
    run = partial(spec.loader.exec_module, module)
    imported(run, where=str(path), failed="the file cannot be run", now="Repair it.")
    return module
