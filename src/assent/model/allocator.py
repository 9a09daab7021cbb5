"""What the libraries below PyTorch keep on a CPU: freed memory, for speed; few prepared products, for memory.

Training frees and asks for the same sizes again at every step. glibc gives large blocks back to the system as soon as
they are freed, and the system fills each page with zeros again when it is next touched: a tenth to a fifth of the time
of a small model's training step.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
MAPPED_FROM_BYTES = 32 << 20  # the highest that glibc takes: larger blocks are still mapped one by one
KEPT_AT_MOST_BYTES = 1 << 30
KEPT_PRODUCTS = 8
_CAPACITIES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"  # of oneDNN, and of PyTorch's layer above it


@cache
def keep_freed_memory() -> bool:
    """Have the C library keep up to KEPT_AT_MOST_BYTES of freed memory; False where it has no such setting (not glibc).

    It holds for the whole process and changes no result.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED_FROM_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, KEPT_AT_MOST_BYTES))


def limit_onednn_cache() -> None:
    """Have oneDNN keep KEPT_PRODUCTS prepared bf16 products instead of 1,024, unless the user's environment says more.

    It prepares code for every shape, up to 0.7 MiB each, and what it keeps lies between the blocks of training. It
    reads the variables at its first product: later this does nothing. It changes no result.
    """
    for name in _CAPACITIES:
        os.environ.setdefault(name, str(KEPT_PRODUCTS))
