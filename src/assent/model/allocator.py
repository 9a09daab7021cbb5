"""Keep freed memory in the process: training frees and asks for the same sizes again at every step.

glibc gives large blocks back to the system as soon as they are freed, and the system fills each page with zeros again
when it is next touched. A training step of a small model spends a tenth to a fifth of its time so.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
MAPPED_FROM_BYTES = 32 << 20  # the highest that glibc takes: larger blocks are still mapped one by one
KEPT_AT_MOST_BYTES = 1 << 30


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
