"""Rates from time stamps, and the line of JSON that every benchmark process prints."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import torch
import workloads as W


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One process: what it does, on which model, in which precision."""

    work: str
    size: str
    precision: str
    quick: bool
    critic: str = "shared"
    imports_mib: float = 0.0  # what the process held before it began

    def steps(self, items: int) -> W.Steps:
        """How long to measure."""
        return W.steps(self.size, items, quick=self.quick)


def parse_job(works: Sequence[str]) -> Job:
    """The job of the command line; sets the threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=works)
    parser.add_argument("--size", choices=[*W.SHAPES], default="tiny")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--critic", choices=["shared", "separate"], default="shared")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    given = vars(parser.parse_args())
    torch.set_num_threads(given.pop("threads"))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    imports_mib = peak_mib()
    W.build(given["size"])
    return Job(**given, imports_mib=imports_mib)


def peak_mib() -> float:
    """The most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


@dataclass(slots=True)
class Stamps:
    """Wall and processor time at the end of every step, with a running count of what was done."""

    rows: list[tuple[float, float, float]] = field(default_factory=list)
    done: float = 0.0

    def mark(self) -> None:
        """A step is over."""
        self.rows.append((time.perf_counter(), time.process_time(), self.done))

    def rates(self, first: int, blocks: int, block: int, *, clock: int = 0) -> list[float]:
        """Done per second (clock 1: per processor second), from mark `first` on."""
        ends = [self.rows[first + place * block] for place in range(blocks + 1)]
        return [(b[2] - a[2]) / (b[clock] - a[clock]) for a, b in pairwise(ends)]


def report(side: str, job: Job, unit: str, stamps: Stamps, span: tuple[int, int, int]) -> None:
    """Print the result as one line."""
    rates = stamps.rates(*span)
    row = asdict(job) | {
        "side": side,
        "unit": unit,
        "rate": round(statistics.median(rates), 3),
        "rates": [round(rate, 3) for rate in rates],
        "rate_per_cpu_s": round(statistics.median(stamps.rates(*span, clock=1)), 3),
        "peak_rss_mib": peak_mib(),
    }
    print("RESULT " + json.dumps(row), flush=True)
