"""A run in a process of its own, cut by a signal and resumed, ends as the run that nobody cut."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import assent, rows_of, worked

PATIENCE_S = 120


def fingerprint(run: Path) -> dict[str, str]:
    weights = (run / "model" / "model.safetensors").read_bytes()
    return {"weights": hashlib.sha256(weights).hexdigest(), "rows": repr(rows_of(run))}


def arguments(home: Path, out: Path) -> list[str]:
    data = home / "world" / "demonstrations.jsonl"
    settings = ("batch_size=1", "epochs=12", "checkpoint_every=25", "machine.threads=1")
    flags = [part for setting in settings for part in ("--set", setting)]
    return ["sft", "--model", str(home / "base"), "--data", str(data), "--out", str(out), *flags]


def cut(home: Path, out: Path, sent: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Start the run, wait until it has taken some steps, and send the signal."""
    command = [sys.executable, "-m", "assent.cli", *arguments(home, out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    patience = time.monotonic() + PATIENCE_S
    metrics = out / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_bytes().count(b"\n") < 40:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < patience, "the run does not get on"
        time.sleep(0.01)
    process.send_signal(sent)
    _, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(command, process.returncode, stderr=err)


@pytest.mark.slow
def test_a_terminated_run_and_a_killed_run_end_as_the_uninterrupted_one(home: Path, tmp_path: Path) -> None:
    worked(*arguments(home, tmp_path / "whole"))

    stopped = cut(home, tmp_path / "terminated", signal.SIGTERM)
    assert stopped.returncode == 143 and "everything up to here is saved" in stopped.stderr
    assert json.loads((tmp_path / "terminated" / "status.json").read_text())["state"] == "interrupted"
    assert not (tmp_path / "terminated" / "model").exists()

    killed = cut(home, tmp_path / "killed", signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL

    for run in ("terminated", "killed"):
        worked(*arguments(home, tmp_path / run), "--resume")
        assert fingerprint(tmp_path / run) == fingerprint(tmp_path / "whole"), run


def test_a_run_cut_between_its_last_step_and_its_model_is_put_together_on_resume(home: Path, tmp_path: Path) -> None:
    worked(*arguments(home, tmp_path / "run"), "--set", "epochs=1")
    before = fingerprint(tmp_path / "run")
    status = tmp_path / "run" / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "running"}))
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    ran = worked(*arguments(home, tmp_path / "run"), "--set", "epochs=1", "--resume")
    assert "were done before" in ran.err and fingerprint(tmp_path / "run") == before


COUNTED = """
import os, pathlib, signal
here = pathlib.Path(__file__).parent

def length(completions, prompts):
    with (here / "scored").open("a") as file:
        file.write(f"{len(completions)}\\n")
    if (here / "stop").exists() and (here / "scored").read_text().count("4\\n") == 2:  # of the second iteration
        (here / "stop").unlink()
        os.kill(os.getpid(), signal.SIGTERM)
    return [len(text) for text in completions]
"""


def test_a_resumed_run_takes_the_scale_of_its_reward_from_its_checkpoint(home: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(COUNTED)

    def given(out: str) -> tuple[object, ...]:
        settings = ("iterations=3", "batch_size=4", "max_tokens=4", "normalise_prompts=6", "checkpoint_every=1")
        flags = [part for setting in settings for part in ("--set", setting)]
        data = home / "world" / "prompts.jsonl"
        return ("ppo", "--model", home / "sft", "--reward", f"{tmp_path}/rules.py:length", "--data", data, "--out",
                tmp_path / out, *flags)  # fmt: skip

    assert "normalise: 6/6 completions" in worked(*given("whole")).err
    (tmp_path / "scored").unlink()
    (tmp_path / "stop").touch()
    stopped = assent(*given("cut"))
    assert stopped.code == 143 and "stopped after 1 of 3 iterations" in stopped.err
    (tmp_path / "scored").unlink()
    resumed = worked(*given("cut"), "--resume")
    assert "normalise" not in resumed.err.replace("normalise_reward", "")
    assert (tmp_path / "scored").read_text().split() == ["2", "4", "4"], "the check at the start, then two rollouts"
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")
