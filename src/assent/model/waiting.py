"""How CPU threads wait for each other: asleep, so that a busy machine slows them down no more than its share.

Between two products every thread waits for the last one. GNU OpenMP, PyTorch's on Linux, lets them wait in a loop for
some milliseconds: while another program has one's core, the others burn theirs, and two threads are many times slower
than one. `import assent` asks for sleep in the environment (OMP_WAIT_POLICY), which is read when PyTorch is imported.
Where PyTorch came first it is too late for that. But GNU OpenMP also cuts the loop to a few microseconds as soon as
there are more threads than cores.
"""

from __future__ import annotations

import os
import threading
from functools import cache

import torch

_CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_SHARED_ELEMENTS = 1 << 20  # PyTorch shares sums of so many among its threads


def wait_asleep() -> None:
    """Have the threads of this process wait asleep, if the environment chose no way of waiting. No result changes."""
    if torch.get_num_threads() > 1 and not any(os.environ.get(name) for name in _CHOSEN_BY):
        _second_team()


@cache
def _second_team() -> None:
    made = threading.Event()
    threading.Thread(target=_team, args=(made,), name="assent-second-team", daemon=True).start()
    made.wait()


def _team(made: threading.Event) -> None:
    torch.ones(_SHARED_ELEMENTS).add_(1)
    made.set()
    threading.Event().wait()
