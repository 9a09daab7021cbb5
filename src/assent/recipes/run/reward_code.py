"""Code of the user's that gives rewards: run with care, its mistakes told with its own file and line."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from assent.errors import AssentError, ConfigError, RunError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardCode:
    """A function or scorer for its errors: `told` says which, `where` its file and line, `now` how it is called."""

    told: str
    where: str
    now: str

    def numbers(self, call: Callable[[], Any], texts: Sequence[str]) -> list[float]:
        """What `call` gives, as one finite number per completion. Raises RunError, also where the code exits."""
        try:
            returned = call()
            values = None
            if _is_list(returned):  # a generator may never end
                values = list(returned if isinstance(returned, Collection) else islice(returned, len(texts) + 1))
        except AssentError:
            raise
        except (Exception, SystemExit) as error:
            where = _line(error, self.where)
            raise RunError(f"{self.told} failed: {_told(error)}", where=where, now=self.now) from error
        if values is None:
            raise self._wrong(f"gave {_kind(returned)} where a list of numbers was expected")
        if len(values) != len(texts):
            least = "" if isinstance(returned, Collection) or len(values) < len(texts) else "at least "
            raise self._wrong(f"gave {least}{len(values)} numbers for {len(texts)} completions")
        return [self._number(value, text) for value, text in zip(values, texts, strict=True)]

    def _number(self, value: Any, text: str) -> float:
        if value is None:
            raise self._wrong(f"gave None for the completion {text[:80]!r}; give 0.0 where a reward does not apply")
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise self._wrong(f"gave {_kind(value)} for the completion {text[:80]!r}") from error
        if not math.isfinite(number):
            shown = _kind(value) if isinstance(value, str | bytes) else str(number)
            raise self._wrong(f"gave {shown} for the completion {text[:80]!r}")
        return number

    def _wrong(self, what: str) -> RunError:
        return RunError(f"{self.told} {what}", where=self.where, now=self.now)


def imported(run: Callable[[], T], *, where: str, failed: str, now: str) -> T:
    """What `run` gives; a ConfigError where the code that it imports fails or ends the program."""
    try:
        return run()
    except SystemExit as error:
        raise ConfigError(
            f"it ends the program while it is imported ({_told(error)})", where=where,
            now='Put what is to run as a program under: if __name__ == "__main__".',
        ) from error  # fmt: skip
    except Exception as error:
        raise ConfigError(f"{failed} ({_told(error)})", where=where, now=now) from error


def place_of(function: Callable[..., Any]) -> str:
    """File and line of a function; where it has none (it is written in C), its name."""
    inner: Any = inspect.unwrap(getattr(function, "func", function))  # a functools.partial wraps a function
    code: Any = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def _is_list(returned: Any) -> bool:
    """Whether it holds values in an order; an array without dimensions does not."""
    unordered = isinstance(returned, str | bytes | Mapping | set) or getattr(returned, "ndim", 1) == 0
    return isinstance(returned, Iterable) and not unordered


def _line(error: BaseException, otherwise: str) -> str:
    """File and line at which a function failed: the deepest one that stands in its own file."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is the call above
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else otherwise


def _kind(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}" if isinstance(value, str | bytes) else type(value).__name__


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
