"""Threads wait asleep while other programs want the cores, and no bit of a result changes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from assent.model.cpu_threads import BUSY_PER_S, CALM_LOOKS, Busy, more_threads_than_cores
from assent.recipes.run import machine

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU OpenMP is PyTorch's on Linux")


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    shared_sum()
    yield
    torch.set_num_threads(1)


def shared_sum() -> torch.Tensor:
    """Sums and products that PyTorch shares among its threads."""
    numbers = torch.randn(1200, 1200, generator=torch.Generator().manual_seed(0))
    return numbers @ numbers + numbers.cumsum(0)


def tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_busy_cores_are_noticed_at_once_and_free_ones_after_a_while() -> None:
    busy = Busy()
    assert [busy.look(BUSY_PER_S) for _ in range(3)] == [False] * 3
    assert busy.look(BUSY_PER_S + 1)
    assert [busy.look(0) for _ in range(CALM_LOOKS)] == [True] * (CALM_LOOKS - 1) + [False]
    assert busy.look(100)
    assert [busy.look(0) for _ in range(3)] == [True] * 3
    assert busy.look(100), "a look with preemptions begins the count again"
    assert [busy.look(0) for _ in range(CALM_LOOKS)] == [True] * (CALM_LOOKS - 1) + [False]


@linux
def test_there_are_more_threads_than_cores_while_they_are_busy_and_the_bits_are_the_same(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4))
    before, free = tasks(), shared_sum()
    with more_threads_than_cores(2):
        assert tasks() == before + 6, (
            "3 teams of 2 sleep: with the 2 at work OpenMP has 5 threads of its own for 4 cores"
        )
        assert torch.equal(shared_sum(), free)
    for _ in range(200):  # a thread of OpenMP ends a moment after the one that made it
        if tasks() == before:
            break
        time.sleep(0.01)
    assert tasks() == before
    assert torch.equal(shared_sum(), free)


@pytest.mark.parametrize("chosen", ["", "PASSIVE"])
def test_choosing_a_machine_watches_its_cores_unless_the_environment_says_how_to_wait(
    chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
    monkeypatch.setattr("assent.model.cpu_threads._watcher", lambda: started.append(True))
    machine.MachineOptions(device="cpu").pick()
    assert started == ([] if chosen or not sys.platform.startswith("linux") else [True])


def test_one_watcher_is_enough() -> None:
    for _ in range(2):
        machine.MachineOptions(device="cpu").pick()
    assert sum(thread.name == "assent-cores" for thread in threading.enumerate()) <= 1
