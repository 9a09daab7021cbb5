"""Judgement from a store trains: pairs to a reward model and a policy, demonstrations to a policy."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from running import worked

from assent.recipes.annotation import feedback_commands
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request


def run(command: str, **flags: Any) -> None:
    function = getattr(feedback_commands, f"run_feedback_{command}")
    function(Request.of(flags), Display(Console(file=io.StringIO())))


@pytest.mark.slow
def test_judgement_of_a_store_trains_a_reward_model_and_policies(home: Path, tmp_path: Path) -> None:
    store, world = str(tmp_path / "feedback.db"), home / "world"
    run("import", store=store, project="ranked", data=[str(world / "preferences.jsonl")])
    run("import", store=store, project="shown", data=[str(world / "demonstrations.jsonl")])
    for labels in ("probability", "margin", "binary"):
        run("pairs", store=store, project="ranked", out=str(tmp_path / f"{labels}.jsonl"), set=[f"labels={labels}"])
    run("export", store=store, project="ranked", format="rankings", out=str(tmp_path / "rankings.csv"))
    run("export", store=store, project="ranked", format="trl-conversational", out=str(tmp_path / "trl.parquet"))
    run("export", store=store, project="shown", format="demonstrations", out=str(tmp_path / "shown.jsonl"))
    for name in ("probability.jsonl", "rankings.csv"):
        run_folder = tmp_path / f"reward-{name}"
        worked("reward", "--model", home / "sft", "--data", tmp_path / name, "--out", run_folder, "--set", "epochs=1")
        source = json.loads((run_folder / "lineage.json").read_text())["data"][0]
        assert source["rows"] > 0 and source["name"] == name
    for name in ("margin.jsonl", "trl.parquet"):
        out = tmp_path / f"dpo-{name}"
        worked("dpo", "--model", home / "sft", "--data", tmp_path / name, "--out", out, "--set", "epochs=1")
    worked(
        "sft",
        "--model",
        home / "base",
        "--data",
        tmp_path / "shown.jsonl",
        "--out",
        tmp_path / "sft",
        "--set",
        "epochs=1",
    )


@pytest.mark.slow
def test_a_reward_model_of_the_stores_pairs_is_that_of_the_file_they_came_from(home: Path, tmp_path: Path) -> None:
    """One ranking an item: through the store and out again the same pairs, so the same weights."""
    store, data = str(tmp_path / "feedback.db"), home / "world" / "preferences.jsonl"
    run("import", store=store, project="ranked", data=[str(data)])
    run("export", store=store, project="ranked", format="rankings", out=str(tmp_path / "rankings.jsonl"))
    digests = []
    for name, path in (("before", data), ("after", tmp_path / "rankings.jsonl")):
        worked("reward", "--model", home / "sft", "--data", path, "--out", tmp_path / name, "--set", "epochs=1")
        digests.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert digests[0] == digests[1]
