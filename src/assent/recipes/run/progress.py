"""Progress for people: stage, rate and time left; bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from assent.metrics import Metrics

_SHOWN = ("loss", "accuracy", "reward", "gold", "kl", "penalty_share", "length")
_LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(rate_of(speed, task.fields["unit"]) if speed else "", style="cyan")


class Display:
    """Where progress is shown. `stage` gives what is told how much is done; `note` says how far one of its units is."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self._shown: Stage | None = None

    def say(self, text: str) -> None:
        """One line for the person watching."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """How far the unit under way is, beside the stage that is shown."""
        if self._shown is not None:
            self._shown.advance(0, text)

    @contextmanager
    def stage(self, name: str, total: int, *, unit: str = "steps", done: int = 0) -> Iterator[Stage]:
        """Show a stage while the block runs; it is told of every `unit`. `done` of them were done before."""
        if self.quiet or not self.console.is_terminal:
            shown = self._shown = _Lines(self, name, total, unit, done)
            try:
                yield shown
            finally:
                self._shown = None
            shown.finish()
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
            _Rate(), TimeRemainingColumn(compact=True), TextColumn("{task.fields[news]}", style="dim"),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(name.ljust(22), total=total, completed=done, unit=unit, news="")
            self._shown = bar = _Bar(progress, task)
            try:
                yield bar
            finally:
                self._shown = None


class Stage:
    """A stage being shown."""

    def advance(self, count: int = 1, news: str = "") -> None:
        """`count` more units are done."""
        raise AssertionError("a stage is a bar or lines")

    def on_tick(self, done: int, total: int, row: Metrics) -> None:
        """For the training loop: one tick is done, or none yet and something was measured."""
        self.advance(min(done, 1), news_of(row))

    @property
    def counter(self) -> Callable[[int], None]:
        """For functions that count items."""
        return lambda count: self.advance(count)


class _Bar(Stage):
    def __init__(self, progress: Progress, task_id: TaskID) -> None:
        self._progress, self._task = progress, task_id

    def advance(self, count: int = 1, news: str = "") -> None:
        fields = {"news": news} if news else {}
        self._progress.update(self._task, advance=count, **fields)  # type: ignore[arg-type]


class _Lines(Stage):
    def __init__(self, display: Display, name: str, total: int, unit: str, done: int) -> None:
        self._display, self._name, self._total, self._unit = display, name, total, unit
        self._before = self._done = done
        self._told, self._news = -1, ""
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1, news: str = "") -> None:
        self._done += count
        self._news = news or self._news
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            self._line()

    def finish(self) -> None:
        if self._told != self._done:
            self._line()

    def _line(self) -> None:
        self._last, self._told = time.monotonic(), self._done
        elapsed = max(1e-9, self._last - self._start)
        speed = (self._done - self._before) / elapsed
        told = [f"{self._name}: {self._done}/{self._total} {self._unit}"]
        told += [rate_of(speed, self._unit)] if speed else []
        told += [f"{elapsed:.0f} s"]
        told += [f"{(self._total - self._done) / speed:.0f} s left"] if speed and self._done < self._total else []
        self._display.say(f"{', '.join(told)}  {self._news}".rstrip())


def rate_of(speed: float, unit: str) -> str:
    """Units a second, or seconds a unit if that is more than one: 3.1 steps/s, 24 s/step."""
    return f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.3g} s/{unit.removesuffix('s')}"


def news_of(row: Metrics) -> str:
    """The few numbers worth a glance."""
    return "  ".join(f"{name} {row[name]:.3f}" for name in _SHOWN if name in row)
