"""Which ratios of two benchmark runs count as moved."""

from __future__ import annotations

import json
import math
import random
import shutil
from copy import deepcopy
from pathlib import Path

import pytest

from benchmarks import compare, run
from benchmarks.compare import moved

ACCEPTED = json.loads(compare.ACCEPTED.read_text())


def results(
    pairs: int, *, seed: int, noise: float, factors: dict[int, float] | None = None, memory: float = 1.0
) -> dict:
    """The accepted jobs measured in `pairs` pairs by a machine with log-normal noise; some jobs faster by a factor."""
    drawn, found = random.Random(seed), deepcopy(ACCEPTED)
    for place, row in enumerate(found["rows"]):
        (first,) = row["pairs"][:1]
        row["pairs"] = [
            {
                **first,
                "ratio": first["ratio"] * (factors or {}).get(place, 1.0) * math.exp(drawn.gauss(0, noise)),
                "memory_ratio": first["memory_ratio"] * memory,
            }
            for _ in range(pairs)
        ]
    return found


def test_the_same_results_have_not_moved() -> None:
    assert [*moved(ACCEPTED, ACCEPTED)] == []


def test_equal_code_seldom_seems_to_move_and_a_real_change_is_found() -> None:
    """300 comparisons of equal code on a machine with 4 % noise, and of code that is a fifth slower in one job."""
    false_alarms = lines = 0
    for seed in range(300):
        before, same = results(3, seed=seed, noise=0.04), results(3, seed=1000 + seed, noise=0.04)
        false_alarms += bool([*moved(before, same)])
        slower = results(3, seed=1000 + seed, noise=0.04, factors={2: 0.8})
        lines += any(line.startswith("dpo tiny fp32: 3.") for line in moved(before, slower))
    assert false_alarms < 30 and lines > 285


def test_a_noisy_machine_needs_a_larger_change() -> None:
    quiet = [*moved(results(3, seed=0, noise=0.01), results(3, seed=1, noise=0.01, factors={0: 0.85}))]
    noisy = [*moved(results(3, seed=0, noise=0.2), results(3, seed=1, noise=0.2, factors={0: 0.85}))]
    assert len(quiet) == 1 and quiet[0].startswith("sft tiny fp32: 4.") and noisy == []


def test_memory_moves_on_its_own() -> None:
    lines = [*moved(ACCEPTED, results(1, seed=0, noise=0.0, memory=1.2))]
    assert len(lines) == len(ACCEPTED["rows"]) and all("of the peer's memory" in line for line in lines)
    assert [*moved(ACCEPTED, results(1, seed=0, noise=0.0, memory=1.03))] == []


def test_a_ratio_that_is_gone_is_told_and_a_new_job_is_not() -> None:
    gone = deepcopy(ACCEPTED)
    gone["rows"][2]["pairs"] = [{**pair, "ratio": None} for pair in gone["rows"][2]["pairs"]]
    (line,) = moved(ACCEPTED, gone)
    assert line == "dpo tiny fp32: no ratio any more, it was 3.25x"
    fewer = deepcopy(ACCEPTED)
    del fewer["rows"][0]
    assert [*moved(fewer, ACCEPTED)] == []


def test_another_machine_is_told() -> None:
    other = {**ACCEPTED, "machine": {"processor": "another", "threads": 1}}
    (line,) = moved(ACCEPTED, other)
    assert line.startswith("the machines differ: ")


def test_a_run_measures_in_pairs_writes_its_page_and_is_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the processes' lines to what is said, with processes that answer at once."""
    asked: list[str] = []

    def answer(python: str, script: str, given: list[str]) -> dict:
        asked.append(script)
        if script == "limits.py":
            return {"matmul_fp32_gflops": 100.0, "matmul_bf16_gflops": 200.0, "copy_gb_s": 10.0}
        side = {"rate": 6.0 if script == "ours.py" else 3.0, "unit": "tokens/s", "peak_rss_mib": 500.0}
        return {**side, "imports_mib": 300.0}

    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(run, "run", answer)
    monkeypatch.setattr(run.subprocess, "run", lambda *given, **more: None)
    monkeypatch.setattr(run, "PEERS", tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    for module in (run, compare):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(compare, "ACCEPTED", tmp_path / "accepted.json")
    shutil.copy(Path(compare.HERE) / "accepted.json", tmp_path)
    monkeypatch.setattr("sys.argv", ["run", "--quick", "--pairs", "2"])
    run.main()
    assert asked[1:5] == ["ours.py", "peer_trl.py"] * 2  # neighbours in time
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "| SFT | tiny | fp32 | 6 tokens/s | 3 tokens/s | 2.00x (2.00 to 2.00) | 3.0x | 500 (300) |" in page
    monkeypatch.setattr("sys.argv", ["compare"])
    compare.main()
    said = capsys.readouterr().out
    assert "sft tiny fp32: 4.51x before, 2.00x now (-56%, noise 0%)" in said
    monkeypatch.setattr("sys.argv", ["compare", "--accept"])
    compare.main()
    monkeypatch.setattr("sys.argv", ["compare"])
    compare.main()
    assert capsys.readouterr().out.endswith("Moved beyond noise since the accepted results:\n  nothing\n")
