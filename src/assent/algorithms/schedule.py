"""What every training shares: the optimiser, and its learning rate by step.

Linear warm-up, then constant, linear or cosine decay to a tenth of the peak.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from assent.config import Settings

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


class OptimizerSettings(Settings):
    """AdamW, its learning rate, and how much is read at once."""

    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Schedule = "cosine"
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)

    def rate(self, step: int, total: int) -> float:
        """The learning rate of optimiser step `step` (from 0) of `total`."""
        return learning_rate(
            step, peak=self.learning_rate, total=total, warmup_share=self.warmup_share, schedule=self.schedule
        )
