"""Sums and counts that add up exactly over micro-batches and ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Metrics = dict[str, float]
_TIMINGS = ("seconds", "tokens_per_second", "peak_memory_mib")


def without_timings(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of metrics without what differs from machine to machine, and from one run to the same run again."""
    return {name: value for name, value in row.items() if name.split("/")[0] not in _TIMINGS}


class Stopwatch:
    """Where the time of a step goes: `seconds/PHASE` for each phase."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._spent = clock, dict[str, float]()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside belongs to this phase; a phase may come again."""
        started = self._clock()
        yield
        self._spent[name] = self._spent.get(name, 0.0) + self._clock() - started

    @property
    def seconds(self) -> float:
        """All phases together."""
        return sum(self._spent.values())

    def row(self, tokens: int) -> Metrics:
        """Seconds by phase and in all, and how many of the step's `tokens` a second that makes."""
        phases = {f"seconds/{name}": spent for name, spent in self._spent.items()}
        return {**phases, "seconds": self.seconds, "tokens_per_second": tokens / max(self.seconds, 1e-9)}


class Tally:
    """Weighted means and maxima by name: add sums with counts, read means."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._maxima: dict[str, float] = {}

    def add(self, sums: Mapping[str, float], count: float) -> None:
        """Add sums over `count` items (tokens, pairs, samples)."""
        for name, value in sums.items():
            total, seen = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + value, seen + count)

    def maximum(self, values: Mapping[str, float]) -> None:
        """Keep the largest value by name."""
        for name, value in values.items():
            self._maxima[name] = max(value, self._maxima.get(name, -math.inf))

    def means(self) -> Metrics:
        """Means of what was added, and the maxima; a name with no items is left out."""
        means = {name: total / seen for name, (total, seen) in self._sums.items() if seen}
        return {**means, **self._maxima}
