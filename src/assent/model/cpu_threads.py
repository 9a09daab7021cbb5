"""How CPU threads wait for each other: they spin while the cores are free and sleep while other programs use them.

Between two products every thread waits for the slowest. GNU OpenMP, which PyTorch uses on Linux, lets threads spin for
some milliseconds before they sleep. That is fastest on free cores. On busy cores, a spinning thread takes the core that
the slowest thread needs, and two threads are many times slower than one. GNU OpenMP spins only a microsecond if it has
more threads than there are cores. So while this process is often preempted, we keep a second, sleeping team of threads.
The number of working threads stays the same, and so does every bit of a result.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch

LOOK_EVERY_S = 0.25
BUSY_PER_S = 10.0  # preemptions per thread; a free core has one or two, a core shared with another program 100
CALM_LOOKS = 20  # without many preemptions, before the cores count as free
_CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_SHARED_ELEMENTS = 1 << 20  # PyTorch shares sums of so many among its threads


class Busy:
    """Whether other programs want the cores, judged by how often the threads were preempted since the last look."""

    def __init__(self) -> None:
        self._now, self._calm = False, 0

    def look(self, preemptions_per_s: float) -> bool:
        """True at once, False only after CALM_LOOKS looks in a row."""
        self._calm = 0 if preemptions_per_s > BUSY_PER_S else self._calm + 1
        self._now = self._calm == 0 or (self._now and self._calm < CALM_LOOKS)
        return self._now


def watch_cores() -> None:
    """Let waiting threads sleep on busy cores from now on, unless the environment says how threads wait."""
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in _CHOSEN_BY):
        _watcher()


@cache
def _watcher() -> None:
    threading.Thread(target=_watch, name="assent-cores", daemon=True).start()


def _watch() -> None:
    busy, asleep, kept, before = Busy(), False, ExitStack(), _preemptions()
    while True:
        time.sleep(LOOK_EVERY_S)
        now, threads = _preemptions(), torch.get_num_threads()
        wanted = busy.look((now - before) / LOOK_EVERY_S / threads) and threads > 1
        if wanted and not asleep:
            kept.enter_context(more_threads_than_cores(threads))
        elif asleep and not wanted:
            kept.close()
        asleep, before = wanted, now


def _preemptions() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@contextmanager
def more_threads_than_cores(threads: int) -> Iterator[None]:
    """Keep as many teams of `threads` (2 or more) asleep as it takes for OpenMP to have more threads than cores."""
    count = (len(os.sched_getaffinity(0)) - threads) // (threads - 1) + 1
    over = threading.Event()
    teams = [_team(over.wait) for _ in range(max(1, count))]
    try:
        yield
    finally:
        over.set()
        for team in teams:
            team.join()


def _team(sleep: Callable[[], object]) -> threading.Thread:
    """A thread of Python's with OpenMP threads of its own; they end with it."""
    made = threading.Event()

    def live() -> None:
        torch.ones(_SHARED_ELEMENTS).add_(1)
        made.set()
        sleep()

    team = threading.Thread(target=live, name="assent-team", daemon=True)
    team.start()
    made.wait()
    return team
