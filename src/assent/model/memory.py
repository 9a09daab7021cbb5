"""How much memory a run takes."""

from __future__ import annotations

import resource

import torch


def peak_memory_mib() -> float:
    """The most memory, in MiB, that this process has held: of the GPU if it uses one, or else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
