"""Settings of where and how a model runs: device, precision, threads, adapters, and the clock of its chat template."""

from __future__ import annotations

import re
from datetime import datetime

import torch
from pydantic import Field, field_validator

from assent.config import Settings
from assent.model.adapters import LoraSettings
from assent.model.allocator import keep_freed_memory, limit_onednn_cache
from assent.model.body import Precision
from assent.model.cpu_threads import watch_cores
from assent.model.loading import pick_device
from assent.text.template import PINNED

MOST_THREADS, MOST_RANKS = 1024, 65_536


class LoraOptions(Settings):
    """Low-rank adapters instead of full weights: rank 0 trains all weights."""

    rank: int = Field(default=0, ge=0, le=MOST_RANKS)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = "all-linear"

    def settings(self) -> LoraSettings:
        """For the body."""
        targets = self.targets if "," not in self.targets else tuple(re.split(r"\s*,\s*", self.targets.strip()))
        return LoraSettings(rank=self.rank, alpha=self.alpha, dropout=self.dropout, targets=targets)


class ClockOptions(Settings):
    """The moment that a chat template which writes the time is given: a date, a date and time, or "now"."""

    clock: str = PINNED.date().isoformat()

    @field_validator("clock")
    @classmethod
    def _is_a_moment(cls, value: str) -> str:
        try:
            if value != "now":
                datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("expected a date such as 2026-02-03, a date and time, or now") from None
        return value

    def moment(self) -> datetime:
        """What the clock says."""
        return datetime.now() if self.clock == "now" else datetime.fromisoformat(self.clock)


class MachineOptions(ClockOptions):
    """Where to compute: device auto, cpu or cuda; fp32, or bf16 products over fp32 weights; CPU threads."""

    device: str = "auto"
    precision: Precision = "fp32"
    threads: int = Field(default=0, ge=0, le=MOST_THREADS)

    def with_real_clock(self) -> MachineOptions:
        """The same for talking with people: it is now, unless a clock was set."""
        return self if "clock" in self.model_fields_set else self.model_copy(update={"clock": "now"})

    def pick(self) -> torch.device:
        """The device; also sets CPU threads, if a number was given, how they wait, and what memory is kept."""
        keep_freed_memory()
        if self.threads:
            torch.set_num_threads(self.threads)
        watch_cores()
        device = pick_device(self.device)
        if device.type == "cpu" and self.precision == "bf16":
            limit_onednn_cache()
        return device
