"""A reward given as a Python function: `FILE.py:NAME` or `package.module:NAME`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from assent.backends.local.sampler import FunctionScorer
from assent.durable import sha256_file
from assent.errors import AssentError, ConfigError, RunError
from assent.lineage import DataSource

RewardFunction = Callable[[list[str], list[str]], Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionReward:
    """The function as a scorer, and the file it stands in for the lineage."""

    scorer: FunctionScorer
    source: DataSource


def is_function(name: str) -> bool:
    """Whether a reward name means a Python function."""
    module, colon, function = name.rpartition(":")
    if name.endswith(".py"):
        raise ConfigError("this is a Python file", where=name, now=f"Name its function: --reward {name}:NAME.")
    return bool(colon and module and function.isidentifier())


def function_reward(name: str) -> FunctionReward:
    """The function that a name means. It takes prompts and completions (lists of text) and gives numbers."""
    module_name, _, function_name = name.rpartition(":")
    module = _load_file(Path(module_name)) if module_name.endswith(".py") else _load_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = f"It has: {', '.join(known[:8])}." if known else "It defines no function."
        raise ConfigError(f'there is no function "{function_name}" in it', where=module_name, now=hint)
    file = Path(str(module.__file__)) if getattr(module, "__file__", None) else None
    source = DataSource(
        role="reward", name=f"{Path(module_name).name}:{function_name}", sha256=sha256_file(file) if file else "",
        format="Python function",
    )  # fmt: skip
    return FunctionReward(scorer=FunctionScorer(_guarded(function, name)), source=source)


def _guarded(function: RewardFunction, name: str) -> RewardFunction:
    """The function with its mistakes told in one line: where in the file, and what it raised or returned."""

    def call(prompts: list[str], completions: list[str]) -> Sequence[float]:
        try:
            given = function(prompts, completions)
        except AssentError:
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames[1:] if frame.filename == frames[1].filename] if frames[1:] else frames
            frame, told = own[-1], _told(error)
            raise RunError(
                f"the reward function {name} failed: {told}", where=f"{frame.filename}:{frame.lineno}", now=_ADVICE
            ) from error
        return checked_rewards(given, name, len(completions))

    return call


_ADVICE = "It is called with two lists of text, prompts and completions, and gives one number for each completion."


def checked_rewards(given: object, name: str, count: int) -> list[float]:
    """What a reward function gave, as `count` numbers. Raises RunError."""
    try:
        rewards = [float(value) for value in given]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise RunError(f"gave no list of numbers ({error})", where=f"reward function {name}", now=_ADVICE) from error
    if len(rewards) != count:
        raise RunError(
            f"gave {len(rewards)} numbers for {count} completions", where=f"reward function {name}", now=_ADVICE
        )
    return rewards


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the module cannot be imported ({error})", where=name, now="For a file, write --reward FILE.py:NAME."
        ) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError("there is no such Python file", where=str(path), now="Check the path of --reward.")
    spec = importlib.util.spec_from_file_location(f"assent_reward_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(path.resolve().parent))  # so that it can import what lies beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"the file cannot be run ({_told(error)})", where=str(path), now="Repair it.") from error
    return module


def _told(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
