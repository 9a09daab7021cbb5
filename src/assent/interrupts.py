"""Stopping on request: a signal only sets a flag, and the loop reads it where stopping is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_Handler = Callable[[int, FrameType | None], Any] | int | None


class StopRequested(Exception):
    """Someone asked to stop, and the work under way is abandoned."""


class StopRequest:
    """A context in which SIGTERM and SIGINT ask the loop to stop instead of ending the process.

    Nothing is saved inside a signal handler: the loop reads `requested` between steps. A second SIGINT raises
    KeyboardInterrupt; a repeated SIGTERM changes nothing. A SIGINT that was ignored on entry
    (a background job) stays ignored. Outside the main thread no handler can be installed; `request` still works.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._interrupts = 0
        self._requested = False
        self._previous: dict[int, _Handler] = {}

    @property
    def requested(self) -> bool:
        """Whether someone asked to stop since the context was entered."""
        return self._requested

    @property
    def exit_code(self) -> int:
        """The exit code that a shell expects: 130 after SIGINT, 143 otherwise."""
        return 130 if self.signal_name == "SIGINT" else 143

    def request(self) -> None:
        """Ask to stop, as a signal would."""
        self._requested = True

    def check(self, _: int = 0) -> None:
        """Raise StopRequested if someone asked to stop; fits wherever progress is told."""
        if self._requested:
            raise StopRequested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self.signal_name = self.signal_name or signal.Signals(number).name
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
