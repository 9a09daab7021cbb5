"""A quick look at one GPU: python benchmarks/gpu.py --out FOLDER [--seconds 95].

SFT, reward model, DPO, PPO and decoding beside the padded loop of plain transformers (`gpu_peer.py`), on the same data
in the same run, and beside the card's own rate of bf16 products. Only useful tokens count, padding does not. Writes
gpu.json and gpu.md after every work; what is not measured yet, or failed, is named there.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
import workloads as W
from gpu_works import DEVICE, JOBS, SHAPES, WORKS, Job

GIB = 1 << 30
Row = dict[str, Any]


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def timed(step: Callable[[], float], *, seconds: float) -> tuple[float, float]:
    """(done per second, peak GiB); one step or two to warm up, then until the time is over."""
    for _ in range(2):
        start = time.perf_counter()
        step()
        synchronize()
        if time.perf_counter() - start > seconds:
            break
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start, done = time.perf_counter(), 0.0
    while time.perf_counter() - start < seconds:
        done += step()
    synchronize()
    elapsed = time.perf_counter() - start
    return done / elapsed, torch.cuda.max_memory_allocated() / GIB if DEVICE.type == "cuda" else 0.0


def forget() -> None:
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def measurements(job: Job, seconds: float, known: Row | None) -> Row:
    """Our rate, where it is not known yet, then the peer's."""
    work, unit = WORKS[job.work]
    ours, useful, make_peer = work(job)
    if known is None:
        rate, peak = timed(ours, seconds=seconds)
        known = {"ours": round(rate, 2), "peak_gib": round(peak, 3)}
    del ours
    forget()
    theirs = make_peer()

    def peer_step() -> float:
        theirs()
        return useful

    rate, peak = timed(peer_step, seconds=seconds)
    return {
        "work": job.name, "size": job.size, "unit": unit, "ours": known["ours"], "peer": round(rate, 2),
        "ratio": round(known["ours"] / rate, 3), "peak_gib": known["peak_gib"], "peer_peak_gib": round(peak, 3),
    }  # fmt: skip


def matmul_tflops(size: int = 8192, repeats: int = 20) -> float:
    """The card's rate of bf16 products, in TFLOP/s."""
    if DEVICE.type == "cpu":
        size, repeats = 512, 3
    left, right = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        left @ right
    synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - start) / 1e12


def share_of_card(row: Row, tflops: float) -> float | None:
    """Products that SFT of all weights needs (6 a parameter and token), as a share of the card's rate."""
    if row["work"] not in ("sft", "sft, LoRA"):
        return None
    shape = SHAPES[row["size"]]
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    parameters = shape["num_hidden_layers"] * (4 * hidden**2 + 3 * hidden * inner) + shape["vocab_size"] * hidden
    return round((4 if "LoRA" in row["work"] else 6) * parameters * row["ours"] / 1e12 / tflops, 4)


def table(found: Row) -> str:
    lines = [
        f"{found['device']}; PyTorch {found['torch']}, transformers {found['transformers']}; bf16 products at "
        f"{found['matmul_tflops']:.0f} TFLOP/s.",
        "",
        "| size | work | ours | padded loop | ratio | peak GiB, ours | peak GiB, loop | share of the card |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        share = row["share_of_card"]
        lines.append(
            f"| {row['size']} | {row['work']} | {row['ours']:,.0f} {row['unit']} | {row['peer']:,.0f} | "
            f"{row['ratio']:.2f} | {row['peak_gib']:.2f} | {row['peer_peak_gib']:.2f} | "
            f"{'' if share is None else f'{share:.1%}'} |"
        )
    lines += [f"\nNot measured: {one['work']} ({one['size']}): {one['reason']}" for one in found["skipped"]]
    return "\n".join(lines) + "\n"


def write(found: Row, folder: Path) -> None:
    (folder / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "gpu.md").write_text(table(found))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=95.0, help="no work is begun later than this")
    parser.add_argument("--each", type=float, default=1.0, help="seconds that each side of a work is timed")
    parser.add_argument("--size", choices=[*SHAPES], help="only this size")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    for size in W.SHAPES:
        W.build(size)
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    found: Row = {
        "device": device, "torch": torch.__version__, "transformers": transformers.__version__,
        "matmul_tflops": round(matmul_tflops(), 1), "shapes": SHAPES, "rows": [], "skipped": [],
    }  # fmt: skip
    waiting = [job for job in JOBS if given.size in (None, job.size)]
    failed: list[Row] = []
    while waiting:
        found["skipped"] = failed + [asdict(job) | {"reason": "the time was over"} for job in waiting]
        write(found, given.out)
        begun = time.perf_counter()
        if begun - start > given.seconds:
            return
        job = waiting.pop(0)
        try:
            same = (row for row in found["rows"] if (row["size"], row["work"]) == (job.size, job.work))
            row = measurements(job, given.each, next(same, None) if job.low_peer else None)
            row["share_of_card"] = share_of_card(row, found["matmul_tflops"])
            row["took_s"] = round(time.perf_counter() - begun, 1)
            found["rows"].append(row)
            print(json.dumps(row), flush=True)
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
            traceback.print_exc()
            failed.append(asdict(job) | {"reason": f"{type(error).__name__}: {str(error)[:200]}"})
        forget()
    found["skipped"] = failed
    write(found, given.out)


if __name__ == "__main__":
    main()
