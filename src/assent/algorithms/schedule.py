"""Learning rate by step: linear warm-up, then constant, linear or cosine decay to a tenth of the peak."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]
_FLOOR = 0.1


def learning_rate(step: int, *, peak: float, total: int, warmup_share: float, schedule: Schedule) -> float:
    """The rate of optimiser step `step` (from 0) of `total`; the first step never has rate zero."""
    warmup = max(1, round(warmup_share * total)) if warmup_share > 0 else 0
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    shape = 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return peak * (_FLOOR + (1.0 - _FLOOR) * shape)
