"""A reward given as a Python function: `module:name`, or `path/to/file.py:name`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from assent.backends.local.sampler import FunctionScorer
from assent.errors import ConfigError


def is_function(name: str) -> bool:
    """Whether a reward name means a Python function."""
    module, colon, function = name.rpartition(":")
    return bool(colon and module and function.isidentifier())


def function_scorer(name: str) -> FunctionScorer:
    """The scorer of a function that takes prompts and completions (lists of text) and gives numbers."""
    module_name, _, function_name = name.rpartition(":")
    module = _load_file(Path(module_name)) if module_name.endswith(".py") else _load_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f'"{function_name}" is no function of {module_name}', where=name)
    return FunctionScorer(function)


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"the module cannot be imported ({error})", where=name) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError("there is no such Python file", where=str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError) as error:
        raise ConfigError(f"the file cannot be run ({error})", where=str(path)) from error
    return module
