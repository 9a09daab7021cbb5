"""Dropout draws from a seed of its own for every pass, and leaves the global generators as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from assent.model.body import Body


@contextmanager
def randomness(seed: int | None, body: Body) -> Iterator[None]:
    """Draw from this seed inside; None leaves everything as it is."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[body.device] if body.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
