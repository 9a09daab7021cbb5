"""Freed memory stays in the process, prepared products do not; both counted in resident pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

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

SHAPES = 400
PRODUCTS = f"""
import resource, sys, torch
from assent.recipes.run.machine import MachineOptions
def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
MachineOptions(device="cpu", precision=sys.argv[1], threads=2).pick()
weight = torch.ones(256, 256, dtype=torch.bfloat16)
rows = torch.ones(4096, 256, dtype=torch.bfloat16)
rows @ weight
before = resident_mib()
for count in range(200, 200 + {SHAPES}):
    rows[:count] @ weight
print(resident_mib() - before)
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


@pytest.mark.slow
@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bf16 products by oneDNN here")
def test_few_prepared_products_are_kept_and_the_user_may_keep_more():
    grown = {}
    for kept, precision in (("few", "bf16"), ("all", "fp32"), ("own", "bf16")):
        own = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"} if kept == "own" else {}
        environment = {name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name} | own
        ran = subprocess.run(
            [sys.executable, "-c", PRODUCTS, precision], check=True, capture_output=True, env=environment
        )
        grown[kept] = float(ran.stdout)
    assert grown["few"] < 0.4 * min(grown["all"], grown["own"]), grown  # 64 of 400, and what the libraries hold anyway
