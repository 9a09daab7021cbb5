"""Freed memory stays in the process, counted in resident pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MIB_FREED = 200
SCRIPT = f"""
import resource, sys, torch
from assent.model.allocator import keep_freed_memory
def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
held = [torch.empty(20 << 20, dtype=torch.uint8).fill_(1) for _ in range({MIB_FREED} // 20)]
before = resident_mib()
del held
print(before - resident_mib())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_stays_in_the_process():
    returned = {
        how: float(subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True).stdout)
        for how in ("keep", "return")
    }
    assert returned["return"] > 0.9 * MIB_FREED
    assert returned["keep"] < 0.1 * MIB_FREED
