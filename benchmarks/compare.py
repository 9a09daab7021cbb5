"""What moved since the last accepted results (benchmarks/results.json): ratios against the peers, and memory.

The machine's speed is in both sides of a ratio. A ratio's range goes from our slowest block over the peer's fastest to
our fastest over its slowest, and is at least NOISE wide on either side. What moved has ranges that do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]
NOISE = 0.1  # of a ratio; the same code measured twice on a busy machine
MEMORY_NOISE = 0.05


def moved(before: Sequence[Row], after: Sequence[Row]) -> Iterator[str]:
    """One line for every job whose ratio or memory moved beyond noise, or that has no ratio any more."""
    accepted = {_key(row): row for row in before}
    for row in after:
        old = accepted.get(_key(row))
        if old is None or old["ratio"] is None:
            continue
        name = " ".join(part for part in _key(row) if part)
        if row["ratio"] is None:
            yield f"{name}: no ratio any more, it was {old['ratio']:.2f}x"
            continue
        (low, high), (old_low, old_high) = _range(row), _range(old)
        if high < old_low or low > old_high:
            how = "slower" if high < old_low else "faster"
            yield f"{name}: {how}, {old['ratio']:.2f}x before, {row['ratio']:.2f}x now"
        if abs(row["memory_ratio"] / old["memory_ratio"] - 1.0) > MEMORY_NOISE:
            yield f"{name}: memory {old['memory_ratio']:.2f}x of the peer's before, {row['memory_ratio']:.2f}x now"


def _key(row: Row) -> tuple[str, ...]:
    return row["work"], row["size"], row["precision"], row["critic"] or ""


def _range(row: Row) -> tuple[float, float]:
    ours, peer = row["ours"]["rates"], row["peer"]["rates"]
    widest = min(ours) / max(peer), max(ours) / min(peer)
    return min(widest[0], row["ratio"] * (1 - NOISE)), max(widest[1], row["ratio"] * (1 + NOISE))
