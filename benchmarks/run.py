"""All benchmarks, one process at a time: python -m benchmarks.run [--quick].

Writes docs/benchmarks.md and benchmarks/results.json, and says what moved since the results that were there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare import moved

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results.json"  # the committed file holds the accepted results
PEERS = ROOT / ".venv-peers" / "bin" / "python"
PYTHON = str(PEERS) if PEERS.exists() else sys.executable  # both sides in one environment, where the peers are there
LIMIT_S = 400
TARGETS = {"sft": 3.0, "reward": 1.8, "dpo": 2.5, "ppo": 2.0, "generate": 1.2}
NAMES = {"sft": "SFT", "reward": "reward model", "dpo": "DPO", "ppo": "PPO", "generate": "decode, batch 64"}
MEMORY_TARGET = 0.6
# (size, precision, works); bf16 is measured where training is, and the small model in one precision to keep it short.
PLAN = (
    ("tiny", "fp32", ("sft", "reward", "dpo", "ppo", "generate")),
    ("tiny", "bf16", ("sft", "reward", "dpo", "ppo")),
    ("small", "fp32", ("sft", "reward", "dpo", "ppo", "generate")),
)
Row = dict[str, Any]


def jobs(*, quick: bool) -> Iterator[tuple[str, str, str, str]]:
    """(work, size, precision, critic)."""
    for size, precision, works in PLAN:
        if quick and size != "tiny":
            continue
        for work in works:
            yield work, size, precision, "shared"
            if work == "ppo" and size == "tiny":
                yield work, size, precision, "separate"


def run(python: str, script: str, given: Sequence[str]) -> Row | None:
    """The result line of one process; None (and its last words) if it gave none."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            [python, str(HERE / script), *given], capture_output=True, text=True, env=environment, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        print(f"  {script} {' '.join(given)}: no result after {LIMIT_S} s", flush=True)
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        print(f"  {script} {' '.join(given)}: {(done.stderr or done.stdout).strip()[-300:]}", flush=True)
        return None
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))


def measure(*, quick: bool, threads: int) -> Row:
    """Every job on both sides, neighbours in time, between two looks at the machine's limits."""
    flags = ["--threads", str(threads)]
    subprocess.run([PYTHON, str(HERE / "workloads.py")], check=True)  # makes the models in a process of its own
    before = run(PYTHON, "limits.py", flags)
    rows: list[Row] = []
    peers: dict[tuple[str, str, str], Row | None] = {}
    for work, size, precision, critic in jobs(quick=quick):
        given = [work, "--size", size, "--precision", precision, *flags, *(["--quick"] if quick else [])]
        ours = run(PYTHON, "ours.py", [*given, "--critic", critic])
        key = (work, size, precision)
        if key not in peers:
            peers[key] = peer(given)
        row = joined(ours, peers[key], work, size, precision, critic)
        rows.append(row)
        print(line_of(row), flush=True)
    after = run(PYTHON, "limits.py", flags)
    machine = {"processor": platform.machine(), "threads": threads}
    return {"machine": machine, "limits": [limit for limit in (before, after) if limit], "rows": rows}


def peer(given: Sequence[str]) -> Row | None:
    """The same job on the other side, where it is installed."""
    if given[0] == "generate":
        return run(PYTHON, "peer_generate.py", given)
    return run(PYTHON, "peer_trl.py", given) if PEERS.exists() else None


def joined(ours: Row | None, other: Row | None, work: str, size: str, precision: str, critic: str) -> Row:
    """Both sides with their ratios; None where a side is missing."""
    both = ours is not None and other is not None
    return {
        "work": work,
        "size": size,
        "precision": precision,
        "critic": critic if work == "ppo" else None,
        "ours": ours,
        "peer": other,
        "ratio": round(ours["rate"] / other["rate"], 2) if both else None,  # type: ignore[index]
        "memory_ratio": round(ours["peak_rss_mib"] / other["peak_rss_mib"], 2) if both else None,  # type: ignore[index]
        "working_ratio": round(_working(ours) / _working(other), 2) if both else None,  # type: ignore[arg-type]
    }


def _working(side: Row) -> float:
    """Memory above what the imports hold, in MiB."""
    return float(side["peak_rss_mib"] - side["imports_mib"])


def line_of(row: Row) -> str:
    """One row of the table."""
    work = NAMES[row["work"]] + (f" ({row['critic']} trunk)" if row["critic"] else "")

    def rate(side: Row | None) -> str:
        return "-" if side is None else f"{side['rate']:,.3g} {side['unit']}" if side["rate"] < 100 else (
            f"{side['rate']:,.0f} {side['unit']}"
        )  # fmt: skip

    def memory(side: Row | None) -> str:
        return "-" if side is None else f"{side['peak_rss_mib']:,.0f} ({side['imports_mib']:,.0f})"

    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
    less, working = ("-" if row[key] is None else f"{row[key]:.2f}x" for key in ("memory_ratio", "working_ratio"))
    target = f"{TARGETS[row['work']]:.1f}x" if row["size"] == "tiny" and row["critic"] != "separate" else ""
    cells = (
        work, row["size"], row["precision"], rate(row["ours"]), rate(row["peer"]), ratio, target,
        memory(row["ours"]), memory(row["peer"]), less, working,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


HEAD = """# Benchmarks

`make bench` wrote this page. Each job ran in its own process, both sides one after the other, with {threads} threads.
Rates are medians of timed blocks. The peers are trl with its padded defaults (PPO: trl 1.12, its last release with PPO,
where policy and value are two models) and `transformers.generate` for decoding. Weights are random, text lengths are
log-normal from 16 to 505 tokens. "tiny" has 3.7 M parameters, "small" 30 M. bf16 means bf16 products over fp32 weights.
Only useful tokens count, padding does not.
Both sides run in one environment. Memory is the peak of the whole process in MiB; in brackets is the memory after all
imports. The goal is {memory}x of the peer's. The last column compares the memory on top of the imports.
For DPO, our time to compute the reference once is spread over the pairs of one epoch. For decoding, both sides generate
128 tokens for every prompt.
{missing}
| work | model | precision | Assent | peer | ratio | goal | MiB | peer MiB | ratio | on top |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def page(results: Row) -> str:
    """The page of the results."""
    alone = not any(row["peer"] for row in results["rows"] if row["work"] != "generate")
    missing = "\nThe trl side was not installed in this run (`benchmarks/make_peers.sh` makes its environment).\n"
    head = HEAD.format(threads=results["machine"]["threads"], memory=MEMORY_TARGET, missing=missing if alone else "")
    lines = [line_of(row) for row in results["rows"]]
    limits = [
        f"\n{when} the run the machine did {found['matmul_fp32_gflops']:.0f} GFLOP/s of matrix products in fp32,"
        f" {found['matmul_bf16_gflops']:.0f} in bf16, and copied {found['copy_gb_s']:.0f} GB/s."
        for when, found in zip(("Before", "After"), results["limits"], strict=False)
    ]
    return head + "\n".join(lines) + "\n" + "\n".join(limits) + "\n"


def main() -> None:
    """Measure, then write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny model only, few steps")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if not PEERS.exists():
        print("No .venv-peers: trl is left out (benchmarks/make_peers.sh installs it).", flush=True)
    results, accepted = measure(quick=given.quick, threads=given.threads), json.loads(RESULTS.read_text())
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    (ROOT / "docs" / "benchmarks.md").write_text(page(results))
    print("docs/benchmarks.md and benchmarks/results.json are written.", flush=True)
    changes = [*moved(accepted["rows"], results["rows"])] or ["nothing"]
    print("Moved beyond noise since the accepted results:", *changes, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
