"""What the machine can do: matrix products and memory. Prints one line of JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

SIDE, MEBI = 2048, 2**20


def fastest(work: Callable[[], object], repeats: int = 7) -> float:
    """Seconds of the best of some repeats, after one to warm up."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def product(dtype: torch.dtype) -> float:
    """GFLOP/s of a square matrix product."""
    a, b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    return 2 * SIDE**3 / fastest(lambda: a @ b) / 1e9


def copy_bandwidth() -> float:
    """GB/s read and written by a copy of 256 MiB."""
    source = torch.rand(64 * MEBI)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / fastest(lambda: target.copy_(source)) / 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    found = {
        "matmul_fp32_gflops": round(product(torch.float32), 1),
        "matmul_bf16_gflops": round(product(torch.bfloat16), 1),
        "copy_gb_s": round(copy_bandwidth(), 1),
    }
    print("RESULT " + json.dumps(found), flush=True)
