"""How a function of the Python API is called: its settings are seen in `help` and completion, and every mistake in the
call is an AssentError."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch
from pydantic.fields import FieldInfo

from assent.algorithms.loop import Task, Watch
from assent.algorithms.methods import Method
from assent.config import Settings
from assent.data.in_memory import called
from assent.errors import BackendError, ConfigError
from assent.metrics import Metrics
from assent.recipes.run.progress import Display
from assent.recipes.run.skipped_examples import say_prepared
from assent.recipes.training.prepare import Prepared

P = ParamSpec("P")
R = TypeVar("R")
OnStep = Callable[[Metrics], None]


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


def check_on_step(on_step: object) -> None:
    """Refuse what cannot be called with a row of metrics, before anything is trained."""
    if on_step is None:
        return
    try:
        if not callable(on_step) or isinstance(on_step, type | torch.nn.Module):
            raise TypeError
        inspect.signature(on_step).bind({})
    except TypeError:
        what = f"a function of one argument (a dict of metrics) is wanted, got {called(on_step)}"
        raise ConfigError(what, where="on_step", now="For example: rows = [], then on_step=rows.append.") from None
    except ValueError:  # a function in C that does not tell what it takes
        return


def watched(method: Method, prepared: Prepared[Task], on_step: OnStep | None) -> None:
    """Train with a bar, and show each row of metrics to `on_step`."""
    task = prepared.task
    say_prepared(Display(), prepared)
    with Display().stage(method.name, task.total, unit=task.unit) as stage:

        def on_tick(done: int, of: int, row: Metrics) -> None:
            stage.on_tick(done, of, row)
            if on_step is not None:
                on_step(dict(row) | {"step": float(done)})

        prepared.run(Watch(on_tick=on_tick))


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
