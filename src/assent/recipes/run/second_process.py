"""Work in a second process, if there is a core for it. The result is the same either way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from assent.errors import AssentError, RunError

Result = TypeVar("Result")


class SecondProcess(Generic[Result]):
    """A call of `function` in another process; with a single core, it is made here when `result` is called.

    Function, arguments and result are pickled by `multiprocessing`. The process ends with this one, however it ends.
    """

    def __init__(self, function: Callable[..., Result], *arguments: Any) -> None:
        self._call: Callable[[], Result] = partial(function, *arguments)
        self._process: SpawnProcess | None = None
        if cores() > 1:
            context = multiprocessing.get_context("spawn")
            self._receiver, sender = context.Pipe(duplex=False)
            self._process = context.Process(target=_work, args=(sender, function, arguments), daemon=True)
            self._process.start()
            sender.close()

    def result(self) -> Result:
        """Wait for the result. Raises what the function raised, or RunError if its process died."""
        if self._process is None:
            return self._call()
        try:
            done, told = self._receiver.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise RunError(f"a process ended with exit code {code}", now="Is there enough memory?") from None
        self._process.join()
        if not done:
            raise told
        result: Result = told
        return result


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked decides
    try:
        sender.send((True, function(*arguments)))
    except AssentError as error:
        sender.send((False, RunError(error.what, where=error.where, now=error.now)))
