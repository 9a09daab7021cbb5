"""Which ratios of two benchmark runs count as moved."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

from benchmarks.compare import moved

ACCEPTED = json.loads((Path(__file__).parents[1] / "benchmarks" / "results.json").read_text())["rows"]


def changed(place: int, factor: float, memory: float = 1.0) -> list[dict]:
    """The accepted rows with our side of one of them faster by a factor."""
    rows = deepcopy(ACCEPTED)
    row = rows[place]
    row["ours"]["rates"] = [rate * factor for rate in row["ours"]["rates"]]
    row["ratio"], row["memory_ratio"] = row["ratio"] * factor, row["memory_ratio"] * memory
    return rows


def test_the_same_results_have_not_moved() -> None:
    assert [*moved(ACCEPTED, ACCEPTED)] == []


def test_a_ratio_moves_when_its_range_leaves_the_accepted_one() -> None:
    single = next(place for place, row in enumerate(ACCEPTED) if row["ratio"] and len(row["ours"]["rates"]) == 1)
    assert [*moved(ACCEPTED, changed(single, 0.9))] == [*moved(ACCEPTED, changed(single, 1.1))] == []
    (slower,), (faster,) = moved(ACCEPTED, changed(single, 0.75)), moved(ACCEPTED, changed(single, 1.25))
    assert "slower" in slower and "faster" in faster
    assert f"{ACCEPTED[single]['ratio']:.2f}x before" in slower


def test_uneven_blocks_make_a_ratio_hard_to_move() -> None:
    rows = changed(0, 1.0)
    rows[0]["peer"]["rates"] = [rate * scale for rate, scale in zip(rows[0]["peer"]["rates"], (0.5, 1, 2), strict=True)]
    assert [*moved(rows, changed(0, 0.75))] == []


def test_memory_moves_on_its_own() -> None:
    (line,) = moved(ACCEPTED, changed(1, 1.0, memory=1.2))
    assert "memory" in line
    assert [*moved(ACCEPTED, changed(1, 1.0, memory=1.03))] == []


def test_a_ratio_that_is_gone_is_told_and_a_new_job_is_not() -> None:
    rows = deepcopy(ACCEPTED)
    rows[2]["ratio"] = None
    assert len([*moved(ACCEPTED, rows)]) == 1
    assert [*moved(ACCEPTED[1:], ACCEPTED)] == []
