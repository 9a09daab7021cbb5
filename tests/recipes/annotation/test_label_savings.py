"""The saving of rounds: which answers are of the random arm, and a run folder that the studio reads."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from assent.active_learning.label_savings import FEWEST
from assent.recipes.annotation.label_savings import keep_asked, measure_saving
from assent.recipes.annotation.questions import prompt_key
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import RewardModel, new_reward_model
from assent.recipes.run.progress import Display
from assent.studio.runs import RunFolders
from assent.types import Comparison, Completion, Conversation

JUDGED = [
    Comparison(
        prompt=Conversation.of_user(f"Where does number {place} live?"),
        chosen=Completion(text=f"Number {place} lives in town {place % 7}."),
        rejected=Completion(text="no" * (1 + place % 5)),
        probability=0.9,
    )
    for place in range(90)
]


@pytest.fixture(scope="module")
def trunk() -> RewardModel:
    """A trunk that saw none of the answers."""
    return new_reward_model(str(shipped_base()), machine=MachineOptions(device="cpu", threads=1), seed=0)


def measurements(trunk: RewardModel, folder: Path, *, arm: int, known: int = 90) -> str:
    """What is said after the first `arm` of the `known` questions were asked at random."""
    keys = [prompt_key(one.prompt) for one in JUDGED[:known]]
    first, second = folder / "first.json", folder / "second.json"
    keep_asked(first, dict.fromkeys(keys[:arm], "random"))
    keep_asked(second, dict.fromkeys(keys[arm:], "reward_model"))
    said = io.StringIO()
    display = Display(Console(file=said, width=300))
    measure_saving(
        trunk, JUDGED, [first, second, folder / "absent.json"], folder / "runs" / "label-savings", display, seed=0
    )
    return said.getvalue()


def test_the_studio_reads_both_curves_with_their_intervals(trunk: RewardModel, tmp_path: Path) -> None:
    said = measurements(trunk, tmp_path, arm=50)
    runs = RunFolders(tmp_path / "runs")
    (run,) = runs.runs()
    assert (run.kind, run.state, run.step, run.total) == ("label_savings", "finished", 25, 25)
    rows = runs.metrics("label-savings").rows
    assert [int(row["step"]) for row in rows] == sorted({int(row["step"]) for row in rows}) and rows[0][
        "step"
    ] == FEWEST
    for row in rows:
        for name in ("accuracy_random", "accuracy_chosen"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert "after 25 labels each" in said and rows[-1]["accuracy_random"] == pytest.approx(0.9)


def test_measuring_again_replaces_the_curve(trunk: RewardModel, tmp_path: Path) -> None:
    measurements(trunk, tmp_path, arm=50)
    before = (tmp_path / "runs" / "label-savings" / "metrics.jsonl").read_text()
    measurements(trunk, tmp_path, arm=50)
    assert (tmp_path / "runs" / "label-savings" / "metrics.jsonl").read_text() == before


def test_too_small_an_arm_is_said_and_nothing_is_written(trunk: RewardModel, tmp_path: Path) -> None:
    assert "30 answers of 90 are of the random arm: too few" in measurements(trunk, tmp_path, arm=30)
    assert not (tmp_path / "runs").exists()


def test_answers_to_questions_that_nobody_remembers_are_left_out(trunk: RewardModel, tmp_path: Path) -> None:
    assert "20 answers of 60" in measurements(trunk, tmp_path, arm=20, known=60)
    assert json.loads((tmp_path / "first.json").read_text()) != {}
