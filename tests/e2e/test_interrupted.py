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
from running import worked

PATIENCE_S = 120


def fingerprint(run: Path) -> dict[str, str]:
    files = (run / "model" / "model.safetensors", run / "metrics.jsonl")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


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
