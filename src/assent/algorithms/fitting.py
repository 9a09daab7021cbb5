"""What fits in the model: sequences that are too long are left out and counted, never cut in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from assent.errors import DataError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized(Generic[Item]):
    """The items that fit and how many did not."""

    items: tuple[Item, ...]
    skipped: int


def leave_out_long(items: Sequence[Item], lengths: Sequence[int], *, max_length: int, what: str) -> Sized[Item]:
    """Keep items of at most `max_length` tokens; raises DataError when none is left."""
    kept = tuple(item for item, length in zip(items, lengths, strict=True) if length <= max_length)
    if items and not kept:
        raise DataError(
            f"all {len(items)} {what} are longer than {max_length} tokens (the shortest has {min(lengths)})",
            now="Raise max_length, or use shorter data.",
        )
    return Sized(items=kept, skipped=len(items) - len(kept))
