"""How a function of the Python API is called: its settings are seen in `help` and completion, and every mistake in the
call is an AssentError."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from pydantic.fields import FieldInfo

from assent.config import Settings
from assent.errors import BackendError, ConfigError

P = ParamSpec("P")
R = TypeVar("R")


def python_call(
    settings: type[Settings] | None = None, *, name: str = "", summary: str = ""
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function of the API; its `**settings` show as the fields of `settings`, with their types and defaults.

    A function that is made, as the `partial` of another one, has the name `name` and a docstring that begins with
    `summary`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        bound = inspect.signature(function)
        written = function.func if isinstance(function, functools.partial) else function

        @functools.wraps(written)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                bound.bind(*args, **kwargs)
            except TypeError as error:
                where = f"assent.{call.__name__}"
                raise ConfigError(str(error), where=where, now=f"help({where}) shows how it is called.") from None
            with enough_memory():
                return function(*args, **kwargs)

        if name:
            call.__name__ = call.__qualname__ = name
            call.__doc__ = f"{summary[0].upper()}{summary[1:]}.\n\n{inspect.getdoc(written)}"
        call.__signature__ = _with(bound, settings) if settings else bound  # type: ignore[attr-defined]
        return call

    return decorate


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn what the machine's memory, or the GPU's, refuses into a BackendError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "out of memory" not in str(error).lower():
            raise
        now = "Lower micro_batch_tokens (training) or max_tokens (writing), or use lora.rank."
        raise BackendError("the memory is not enough", now=now) from error


def _with(bound: inspect.Signature, settings: type[Settings]) -> inspect.Signature:
    own = [one for one in bound.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    shown = [_shown(name, field) for name, field in settings.model_fields.items() if name not in bound.parameters]
    return bound.replace(parameters=[*own, *shown])


def _shown(name: str, field: FieldInfo) -> inspect.Parameter:
    """A setting as a keyword; a table of settings is a dict."""
    table = isinstance(field.default, Settings)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=dict if table else field.annotation,
        default={} if table else field.default,
    )  # fmt: skip
