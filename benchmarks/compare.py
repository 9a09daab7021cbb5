"""What moved since the accepted results: python -m benchmarks.compare [--accept].

Every job ran in pairs, our side and the peer's one after the other, so the speed of the machine is in both sides of a
pair's ratio. With a_1..a_n the logarithms of the accepted ratios of a job and b_1..b_m those of now, it moved if

    |mean b - mean a| > max(log(1 + WORTH), SIGMAS s sqrt(1/n + 1/m))

where s is the spread of a job's pairs about their mean, pooled over all jobs of both runs. `--accept` makes the results
of the last run the accepted ones.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

Row = dict[str, Any]
HERE = Path(__file__).resolve().parent
RESULTS, ACCEPTED = HERE / "results.json", HERE / "accepted.json"
WORTH = 0.05  # a smaller change of a ratio is not worth a line, however sure
SIGMAS = 3.0  # of some thirty comparisons of equal code, one in ten runs has one that seems to move
KINDS = {"ratio": "x", "memory_ratio": "x of the peer's memory"}


def moved(accepted: Row, now: Row) -> Iterator[str]:
    """One line for every ratio that moved beyond noise, or is there no more."""
    if accepted["machine"] != now["machine"]:
        yield f"the machines differ: {accepted['machine']} before, {now['machine']} now"
    before, after = ({key_of(row): row for row in results["rows"]} for results in (accepted, now))
    for kind, unit in KINDS.items():
        logs = {
            side: {key: logs_of(row, kind) for key, row in rows.items()} for side, rows in enumerate((before, after))
        }
        spread = pooled_spread([*logs[0].values(), *logs[1].values()])
        for key in after:
            old, new = logs[0].get(key, []), logs[1][key]
            name = " ".join(part for part in key if part)
            if old and not new:
                yield f"{name}: no {kind.replace('_', ' ')} any more, it was {math.exp(fmean(old)):.2f}{unit}"
            if not old or not new:
                continue
            change = fmean(new) - fmean(old)
            noise = SIGMAS * spread * math.sqrt(1 / len(old) + 1 / len(new))
            if abs(change) > max(math.log1p(WORTH), noise):
                found = f"{math.exp(fmean(old)):.2f}{unit} before, {math.exp(fmean(new)):.2f}{unit} now"
                yield f"{name}: {found} ({math.expm1(change):+.0%}, noise {math.expm1(noise):.0%})"


def key_of(row: Row) -> tuple[str, ...]:
    """What names a job."""
    return row["work"], row["size"], row["precision"], row["critic"] or ""


def logs_of(row: Row, kind: str) -> list[float]:
    """The logarithms of a job's ratios, one of each pair that has both sides."""
    return [math.log(pair[kind]) for pair in row["pairs"] if pair[kind] is not None]


def pooled_spread(jobs: Sequence[Sequence[float]]) -> float:
    """The standard deviation about the jobs' own means; 0 where every job has one pair."""
    squares = sum((one - fmean(job)) ** 2 for job in jobs if job for one in job)
    freedom = sum(len(job) - 1 for job in jobs if job)
    return math.sqrt(squares / freedom) if freedom else 0.0


def main() -> None:
    """Say what moved, or accept the last results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accept", action="store_true", help="the last results are the accepted ones from now on")
    if parser.parse_args().accept:
        shutil.copyfile(RESULTS, ACCEPTED)
        print(f"{ACCEPTED.name} holds the last results now.", flush=True)
        return
    changes = [*moved(json.loads(ACCEPTED.read_text()), json.loads(RESULTS.read_text()))] or ["nothing"]
    print("Moved beyond noise since the accepted results:", *changes, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
