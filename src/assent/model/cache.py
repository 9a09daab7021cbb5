"""Keys and values of sequences that are being written, one token more of each per step.

Legend: B rows, K some of them, G key/value heads, N prompt tokens, L tokens, D head dimension, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True)
class DecodeCache:
    """One key and one value tensor (B, G, C, D) per layer. Every row writes its next token to column `used`.

    Row b's tokens fill the columns from `starts[b]` on; `unseen_BC` says which columns are before that. A new cache
    is for prompts of the given lengths and has `spare` columns behind them. Where prompts share tokens, `paths` has the
    places of each one's tokens in the row that is read.
    """

    lengths: tuple[int, ...]
    spare: int
    paths: tuple[Tensor, ...] = ()
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    used: int = 0
    starts: tuple[int, ...] = ()
    unseen_BC: Tensor | None = None
    places: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        self.used = max(self.lengths)
        self.starts = tuple(self.used - length for length in self.lengths)

    @property
    def is_full(self) -> bool:
        """Whether no column is left for another token."""
        return self.unseen_BC is not None and self.used == self.unseen_BC.shape[1]

    def file_prompts(self, layer: int, key_GND: Tensor, value_GND: Tensor) -> None:
        """Copy the prompts' keys and values to their columns."""
        heads, _, width = key_GND.shape
        shape = (len(self.lengths), heads, self.used + self.spare, width)
        keys, values = key_GND.new_zeros(shape), value_GND.new_zeros((*shape[:3], value_GND.shape[-1]))
        self.keys[layer], self.values[layer] = keys, values
        self._see(keys.device)
        if keys.device.type != "cpu":  # one launch, not one per row
            if self.places is None:  # row and column of every prompt token, made once for all layers
                rows = [row for row, length in enumerate(self.lengths) for _ in range(length)]
                columns = [column for start in self.starts for column in range(start, self.used)]
                self.places = torch.tensor(rows, device=keys.device), torch.tensor(columns, device=keys.device)
            row_N, column_N = self.places
            keys[row_N, :, column_N] = key_GND.transpose(0, 1)
            values[row_N, :, column_N] = value_GND.transpose(0, 1)
            return
        first = 0
        for row, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            path = self.paths[row] if self.paths else slice(first, first + length)
            keys[row, :, start : self.used] = key_GND[:, path]
            values[row, :, start : self.used] = value_GND[:, path]
            first += length

    def _see(self, device: torch.device) -> None:
        if self.unseen_BC is None:
            starts_B1 = torch.tensor(self.starts, device=device)[:, None]
            self.unseen_BC = torch.arange(self.used + self.spare, device=device)[None, :] < starts_B1

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these; the columns stay as they are. One layer at a time is held twice."""
        assert self.unseen_BC is not None
        rows_K = torch.tensor(rows, device=self.unseen_BC.device)
        self.starts = tuple(self.starts[row] for row in rows)
        for held in (self.keys, self.values):
            for layer in held:
                held[layer] = held[layer][rows_K]
        self.unseen_BC = self.unseen_BC[rows_K]

    @staticmethod
    def joined(parts: Sequence[tuple[DecodeCache, Sequence[int]]], *, spare: int) -> DecodeCache:
        """One cache of rows of several (a row may come twice), as narrow as their tokens allow.

        The several are given up layer by layer, so that one layer at a time is held twice.
        """
        held = [[cache.used - cache.starts[row] for row in rows] for cache, rows in parts]
        whole = DecodeCache(tuple(length for lengths in held for length in lengths), spare)
        for mine, theirs in ((whole.keys, "keys"), (whole.values, "values")):
            for layer in list(getattr(parts[0][0], theirs)):
                like_BGCD = getattr(parts[0][0], theirs)[layer]
                _, heads, _, width = like_BGCD.shape
                mine[layer] = like_BGCD.new_zeros((len(whole.lengths), heads, whole.used + spare, width))
                del like_BGCD
                first = 0
                for (cache, rows), lengths in zip(parts, held, strict=True):
                    longest, last = max(lengths), first + len(rows)
                    chosen = slice(None) if [*rows] == [*range(len(cache.starts))] else [*rows]
                    old_BGCD = getattr(cache, theirs).pop(layer)
                    old_KGLD = old_BGCD[chosen, :, cache.used - longest : cache.used]
                    mine[layer][first:last, :, whole.used - longest : whole.used] = old_KGLD
                    first = last
        unseen_BC = parts[0][0].unseen_BC
        assert unseen_BC is not None
        whole._see(unseen_BC.device)
        return whole
