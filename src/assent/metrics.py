"""Sums and counts that add up exactly over micro-batches and ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping

Metrics = dict[str, float]


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
