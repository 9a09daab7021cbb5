"""The order of examples: a pure function of (seed, epoch), so that a run can resume at any position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assent.seeds import numpy_rng

Order = npt.NDArray[np.int64]


def epoch_order(count: int, *, seed: int, epoch: int) -> Order:
    """A permutation of 0..count-1; every epoch has its own."""
    return numpy_rng(seed, "order", epoch).permutation(count).astype(np.int64)


def token_budget_batches(lengths: Sequence[int], max_tokens: int) -> list[range]:
    """Contiguous runs of sequences with at most `max_tokens` in total; a longer sequence is a run of its own."""
    runs: list[range] = []
    start = tokens = 0
    for place, length in enumerate(lengths):
        if place > start and tokens + length > max_tokens:
            runs.append(range(start, place))
            start, tokens = place, 0
        tokens += length
    return [*runs, range(start, len(lengths))] if len(lengths) else []
