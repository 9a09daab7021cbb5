"""All benchmarks, one process at a time: python -m benchmarks.run [--pairs N] [--quick].

Every job runs in pairs of processes, our side and the peer's. Writes docs/benchmarks.md and benchmarks/results.json;
`benchmarks.compare` says what moved since the accepted results.
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
from statistics import median

from benchmarks.compare import RESULTS, Row

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
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


def measure(*, quick: bool, threads: int, pairs: int) -> Row:
    """Every job in pairs, neighbours in time, between two looks at the machine's limits."""
    flags = ["--threads", str(threads)]
    subprocess.run([PYTHON, str(HERE / "workloads.py")], check=True)  # makes the models in a process of its own
    before = run(PYTHON, "limits.py", flags)
    rows: list[Row] = []
    peers: dict[tuple[str, str, str], list[Row | None]] = {}
    for work, size, precision, critic in jobs(quick=quick):
        given = [work, "--size", size, "--precision", precision, *flags, *(["--quick"] if quick else [])]
        others = peers.setdefault((work, size, precision), [])
        row: Row = {"work": work, "size": size, "precision": precision, "critic": critic if work == "ppo" else None}
        row["pairs"] = []
        for place in range(pairs):
            ours = run(PYTHON, "ours.py", [*given, "--critic", critic])
            if place == len(others):
                others.append(peer(given))
            row["pairs"].append(joined(ours, others[place]))
        rows.append(row)
        print(line_of(row), flush=True)
    after = run(PYTHON, "limits.py", flags)
    machine = {"processor": processor(), "threads": threads}
    return {"machine": machine, "limits": [limit for limit in (before, after) if limit], "rows": rows}


def processor() -> str:
    """The processor and what it has for products in bf16, which differ by two from one to the next."""
    told = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    found = {key.strip(): value for key, _, value in (line.partition(": ") for line in told.splitlines())}
    units = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in found.get("flags", "").split()]
    return " ".join([found.get("model name", platform.machine()), *units[:1]])


def peer(given: Sequence[str]) -> Row | None:
    """The same job on the other side, where it is installed."""
    if given[0] == "generate":
        return run(PYTHON, "peer_generate.py", given)
    return run(PYTHON, "peer_trl.py", given) if PEERS.exists() else None


def joined(ours: Row | None, other: Row | None) -> Row:
    """Both sides with their ratios; None where a side is missing."""
    pair: Row = {"ours": ours, "peer": other, "ratio": None, "memory_ratio": None, "working_ratio": None}
    if ours is not None and other is not None:
        pair["ratio"] = round(ours["rate"] / other["rate"], 3)
        pair["memory_ratio"] = round(ours["peak_rss_mib"] / other["peak_rss_mib"], 3)
        pair["working_ratio"] = round(_working(ours) / _working(other), 3)
    return pair


def _working(side: Row) -> float:
    """Memory above what the imports hold, in MiB."""
    return float(side["peak_rss_mib"] - side["imports_mib"])


def line_of(row: Row) -> str:
    """One row of the table: medians of the pairs, and the range of the ratio."""
    work = NAMES[row["work"]] + (f" ({row['critic']} trunk)" if row["critic"] else "")

    def middle(side: str, what: str) -> float | None:
        found = [pair[side][what] for pair in row["pairs"] if pair[side] is not None]
        return median(found) if found else None

    def rate(side: str) -> str:
        found = middle(side, "rate")
        if found is None:
            return "-"
        unit = next(pair[side]["unit"] for pair in row["pairs"] if pair[side] is not None)
        return f"{found:,.3g} {unit}" if found < 100 else f"{found:,.0f} {unit}"

    def memory(side: str) -> str:
        found = middle(side, "peak_rss_mib")
        return "-" if found is None else f"{found:,.0f} ({middle(side, 'imports_mib'):,.0f})"

    def ratio(what: str, *, spread: bool = False) -> str:
        found = sorted(pair[what] for pair in row["pairs"] if pair[what] is not None)
        if not found:
            return "-"
        return f"{median(found):.2f}x" + (f" ({found[0]:.2f} to {found[-1]:.2f})" if spread and len(found) > 1 else "")

    target = f"{TARGETS[row['work']]:.1f}x" if row["size"] == "tiny" and row["critic"] != "separate" else ""
    cells = (
        work, row["size"], row["precision"], rate("ours"), rate("peer"), ratio("ratio", spread=True), target,
        memory("ours"), memory("peer"), ratio("memory_ratio"), ratio("working_ratio"),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


HEAD = """# Benchmarks

`make bench` wrote this page, on {processor} with {threads} threads. Each job ran in pairs of processes (here: {pairs}),
our side and the peer's one after the other. Rates are medians; a ratio is the median of the pairs' ratios, with their
range in brackets. The peers are trl with its padded defaults (PPO: trl 1.12, its last release with PPO,
where policy and value are two models) and `transformers.generate` for decoding. Weights are random, text lengths are
log-normal from 16 to 505 tokens. "tiny" has 3.7 M parameters, "small" 30 M. bf16 means bf16 products over fp32 weights.
Only useful tokens count, padding does not.
Both sides run in one environment. Memory is the peak of the whole process in MiB; in brackets is the memory after all
imports. The goal is {memory}x of the peer's. The last column compares the memory on top of the imports.
For DPO, our time to compute the reference once is spread over the pairs of one epoch. For decoding, both sides generate
128 tokens for every prompt.

The accepted results are in `benchmarks/accepted.json`. At its end `make bench` names the ratios that moved since then
by more than 5 % and by more than three standard errors; the noise is what the pairs of a job differ by, pooled over all
jobs of both runs. `python -m benchmarks.compare` says it again without measuring, and `python -m benchmarks.compare
--accept` makes the last results the accepted ones. Do this when a change of speed is meant to stay, and commit the file
with the change.

`python -m benchmarks.decoding MODEL PROMPTS` compares decoding of any real model with `generate`, in pairs within one
process, and with vLLM, if its environment is there (`benchmarks/make_readers.sh`).
{missing}
| work | model | precision | Assent | peer | ratio | goal | MiB | peer MiB | ratio | on top |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def page(results: Row) -> str:
    """The page of the results."""
    trained = [pair for row in results["rows"] if row["work"] != "generate" for pair in row["pairs"]]
    missing = "\nThe trl side was not installed in this run (`benchmarks/make_peers.sh` makes its environment).\n"
    missing = "" if any(pair["peer"] for pair in trained) else missing
    pairs = max(len(row["pairs"]) for row in results["rows"])
    head = HEAD.format(**results["machine"], pairs=pairs, memory=MEMORY_TARGET, missing=missing)
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
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    if not PEERS.exists():
        print("No .venv-peers: trl is left out (benchmarks/make_peers.sh installs it).", flush=True)
    results = measure(quick=given.quick, threads=given.threads, pairs=given.pairs)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    (ROOT / "docs" / "benchmarks.md").write_text(page(results))
    print("docs/benchmarks.md and benchmarks/results.json are written.", flush=True)


if __name__ == "__main__":
    main()
