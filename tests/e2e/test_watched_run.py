"""An online run under watch: a held-out reward, alarms, the best weights kept, a KL budget; the same after a cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from running import Ran, assent, rows_of, worked

from assent.data.load import kind_of_file

RULES = """
import os, pathlib, signal
here = pathlib.Path(__file__).parent

def longer(completions, prompts):
    return [float(len(text)) for text in completions]

def shorter(completions, prompts):
    with (here / "judged").open("a") as file:
        file.write("x")
    if (here / "stop").exists() and (here / "judged").stat().st_size == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return [-float(len(text)) for text in completions]
"""


def watched(home: Path, folder: Path, out: str, *more: object) -> Ran:
    (folder / "rules.py").write_text(RULES)
    (folder / "judged").unlink(missing_ok=True)
    world = home / "world"
    settings = (
        "iterations=3", "batch_size=4", "max_tokens=6", "normalise_prompts=4", "evaluate_every=1", "learning_rate=3e-2",
        "kl_coef=0.01", "checkpoint_every=1",
    )  # fmt: skip
    flags = [part for setting in settings for part in ("--set", setting)]
    return assent(
        "ppo", "--model", home / "sft", "--reward", f"{folder}/rules.py:longer", "--watch",
        f"{folder}/rules.py:shorter", "--data", world / "prompts.jsonl", "--eval-data", world / "held-out.jsonl",
        "--out", folder / out, *flags, *more,
    )  # fmt: skip


def seen(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "watch.jsonl").read_text().splitlines()]


def test_the_watch_measures_keeps_the_best_and_leaves_pairs_to_check(home: Path, tmp_path: Path) -> None:
    ran = watched(home, tmp_path, "run", "--set", 'keep="best"')
    assert ran.code == 0, ran.err
    run = tmp_path / "run"
    rows, measured = rows_of(run), seen(run)
    assert [one["step"] for one in measured] == [0, 1, 2, 3]
    for row, one in zip(rows, measured, strict=True):
        assert one["held_out_P"] == [-reward for reward in one["reward_P"]] == [-float(len(t)) for t in one["texts"]]
        mean = sum(one["held_out_P"]) / len(one["held_out_P"])
        assert row["held_out_reward"] == mean and row["eval_reward"] == -mean and "eval_distinct_2" in row
    best = max(measured, key=lambda one: sum(one["held_out_P"]))["step"]
    notes = " ".join(json.loads((run / "report.json").read_text())["notes"])
    assert (f"weights of iteration {best} are kept" if best < 3 else "last weights are kept") in notes
    report = json.loads((run / "report.json").read_text())
    assert (
        report["over_optimisation"]["judge"] == "held-out reward"
        and "Held-out reward" in (run / "report.html").read_text()
    )
    assert kind_of_file(run / "spot-checks.jsonl").value and "assent feedback import" in notes
    worked(
        "feedback", "import", "--store", tmp_path / "s.db", "--project", "checks", "--data", run / "spot-checks.jsonl"
    )


def test_a_watched_run_that_is_cut_ends_as_one_that_is_not(home: Path, tmp_path: Path) -> None:
    assert watched(home, tmp_path, "whole", "--set", 'keep="best"').code == 0
    (tmp_path / "stop").touch()
    cut = watched(home, tmp_path, "cut", "--set", 'keep="best"')
    assert cut.code == 143, cut.err
    (tmp_path / "stop").unlink()
    assert watched(home, tmp_path, "cut", "--set", 'keep="best"', "--resume").code == 0
    for name in ("watch.jsonl", "model/model.safetensors", "best.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_spent_kl_budget_ends_the_run_as_a_finished_one(home: Path, tmp_path: Path) -> None:
    ran = watched(home, tmp_path, "run", "--set", "kl_budget=1e-6")
    assert ran.code == 0 and "the budget of 1e-06 is spent, and training ends after 2 of 3 iterations" in ran.err
    assert [row["iteration"] for row in rows_of(tmp_path / "run")] == [0, 1, 2]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    again = watched(home, tmp_path, "run", "--set", "kl_budget=1e-6", "--resume")
    assert again.code == 2 and "is finished (2 of 3 iterations)" in again.err


def test_a_watch_without_held_out_measurements_is_refused(home: Path, tmp_path: Path) -> None:
    ran = watched(home, tmp_path, "run", "--set", "evaluate_every=0")
    assert ran.code == 2 and "evaluate_every" in ran.err and not (tmp_path / "run").exists()
