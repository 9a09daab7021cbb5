"""Power cuts under the store: 1,000 moments of recorded sessions, and the same for two settings that must lose.

python -m benchmarks.power_cuts [--cuts 1000]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from feedback.power_cuts import cut_power  # the tests' own disk

CUTS_PER_SESSION = 100


def main() -> None:
    """One line of JSON for each setting."""
    parser = argparse.ArgumentParser(description="Cut the power under the store and count what is lost.")
    parser.add_argument("--cuts", type=int, default=1000)
    chosen = parser.parse_args()
    for synchronous in ("FULL", "NORMAL", "OFF"):
        started = time.monotonic()
        sessions = range(-(-chosen.cuts // CUTS_PER_SESSION))
        outcomes = [cut_power(synchronous=synchronous, cuts=CUTS_PER_SESSION, seed=seed) for seed in sessions]
        figures = {name: sum(getattr(each, name) for each in outcomes) for name in ("cuts", "lost", "broken")}
        seconds = round(time.monotonic() - started, 1)
        print(json.dumps({"synchronous": synchronous} | figures | {"s": seconds}), flush=True)


if __name__ == "__main__":
    main()
