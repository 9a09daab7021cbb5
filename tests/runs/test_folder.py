from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assent.errors import Interrupted, RunError
from assent.runs.folder import RunDir, read_settings, read_status
from assent.runs.lock import is_held

SETTINGS: dict[str, Any] = {"seed": 1, "ppo": {"learning_rate": 0.001}, "log": {"every": 10}}
LINEAGE: dict[str, Any] = {
    "data": [{"role": "train", "name": "a.jsonl", "sha256": "1" * 64}],
    "parents": [{"role": "policy", "name": "base", "sha256": "2" * 64}],
    "versions": {"torch": "1.0"},
    "machine": "Linux x86_64, one",
    "threads": 1,
}


def begun(path: Path, state: str | None = None) -> Path:
    run = RunDir.create(path, kind="ppo", settings=SETTINGS, lineage=LINEAGE, total=8)
    run.metrics.append(1, {"loss": 1.0})
    run.metrics.append(2, {"loss": 0.5})
    if state:
        run.set_status(state, step=3)
    run.close()
    return path


def refused(path: Path, settings: dict[str, Any] = SETTINGS, lineage: dict[str, Any] = LINEAGE) -> str:
    with pytest.raises(RunError) as caught:
        RunDir.open_for_resume(path, settings=settings, lineage=lineage, ignore=("log",))
    return str(caught.value)


def test_a_run_cut_and_resumed_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    path = begun(tmp_path / "run", "interrupted")
    assert read_status(path).state == "interrupted"
    with RunDir.open_for_resume(path, settings=SETTINGS, lineage=LINEAGE) as run:
        run.truncate_after(1)
        run.metrics.append(2, {"loss": 0.5})
        run.sync()
        run.set_status("finished", step=8)
        assert run.checkpoints.parent == path
    status = read_status(path)
    assert (status.kind, status.state, status.step, status.total) == ("ppo", "finished", 8, 8)
    assert (path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n'
    assert read_settings(path) == SETTINGS


def test_another_run_is_never_written_over_unasked(tmp_path: Path) -> None:
    for state, words in (
        ("interrupted", "an unfinished run of ppo (3 of 8 steps). Give --resume"),
        ("finished", "a fin"),
    ):
        path = begun(tmp_path / state, state)
        before = {file: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}
        with pytest.raises(RunError) as caught:
            RunDir.create(path, kind="sft", settings={}, lineage={})
        assert words in str(caught.value)
        assert {file: file.read_bytes() for file in path.iterdir() if file.name != ".lock"} == before


def test_overwrite_replaces_a_run_and_refuses_a_folder_that_is_none(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    (path / "checkpoints" / "step-00000001").mkdir(parents=True)
    RunDir.create(path, kind="sft", settings={"seed": 2}, lineage=LINEAGE, overwrite=True).close()
    assert read_settings(path) == {"seed": 2}
    assert (path / "metrics.jsonl").read_bytes() == b""
    assert not (path / "checkpoints").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="holds no run"):
        RunDir.create(tmp_path / "home", kind="sft", settings={}, lineage={}, overwrite=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_a_start_that_was_killed_before_it_began_is_no_run(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    for name in ("config.json", "metrics.jsonl", "samples.jsonl"):
        (path / name).unlink()
    (path / ".config.json.123.tmp").write_text("{")
    RunDir.create(path, kind="sft", settings=SETTINGS, lineage=LINEAGE).close()
    assert read_status(path).kind == "sft"


def test_resume_with_other_settings_shows_the_difference(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    message = refused(path, {"seed": 2, "ppo": {"learning_rate": 0.002, "clip": 0.2}, "log": {"every": 5}})
    assert "seed: 1 -> 2" in message
    assert "ppo.learning_rate: 0.001 -> 0.002" in message
    assert "ppo.clip: absent -> 0.2" in message
    assert "log.every" not in message
    assert read_status(path).state == "running"


def test_resume_with_other_data_or_parents_shows_the_difference(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    other = {**LINEAGE["data"][0], "sha256": "3" * 64}
    assert 'data.1 (train): "1111111111111111" -> "3333333333333333"' in refused(
        path, lineage={**LINEAGE, "data": [other]}
    )
    assert "data.2 (train): absent -> " in refused(path, lineage={**LINEAGE, "data": [*LINEAGE["data"], other]})
    assert "parents.1 (policy): " in refused(path, lineage={**LINEAGE, "parents": []})


def test_a_moved_file_is_the_same_data_and_another_version_or_processor_a_warning(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    moved = {**LINEAGE, "data": [{**LINEAGE["data"][0], "name": "b.jsonl"}], "versions": {"torch": "2.0"}}
    moved |= {"machine": "Linux x86_64, two"}
    with RunDir.open_for_resume(path, settings=SETTINGS, lineage=moved) as run:
        assert [warning.split(": ", 1)[1] for warning in run.warnings] == [
            'machine: "Linux x86_64, one" -> "Linux x86_64, two"',
            'versions.torch: "1.0" -> "2.0"',
        ]


def test_a_resume_that_would_train_nothing_is_an_error(tmp_path: Path) -> None:
    assert "nothing left to train" in refused(begun(tmp_path / "run", "finished"))
    assert "there is no run to resume" in refused(tmp_path / "absent")


@pytest.mark.parametrize("name", ["status.json", "lineage.json", "config.json"])
def test_damaged_run_files_are_readable_errors(tmp_path: Path, name: str) -> None:
    path = begun(tmp_path / "run")
    for content in ("{", "[]"):
        (path / name).write_text(content)
        assert f"{name}: the file is damaged" in refused(path)


def test_two_processes_never_write_one_run_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "run"
    program = (
        "import sys, time; from pathlib import Path; from assent.runs.folder import RunDir\n"
        f"run = RunDir.create(Path({str(path)!r}), kind='ppo', settings={SETTINGS!r}, lineage={LINEAGE!r})\n"
        "print('torch' in sys.modules, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "False\n", "run folders are read where torch is not installed"
        assert is_held(path)
        assert f"another process (process {holder.pid}) is writing this run" in refused(path)
        with pytest.raises(RunError, match="another process"):
            RunDir.create(path, kind="ppo", settings=SETTINGS, lineage=LINEAGE, overwrite=True)
        holder.kill()
    assert not is_held(path)
    assert read_status(path).state == "running"
    RunDir.open_for_resume(path, settings=SETTINGS, lineage=LINEAGE).close()


@pytest.mark.parametrize(
    ("error", "state"),
    [(Interrupted("stopped"), "interrupted"), (KeyboardInterrupt(), "interrupted"), (ValueError("bug"), "failed")],
)
def test_leaving_by_an_error_is_written_down(tmp_path: Path, error: BaseException, state: str) -> None:
    with (
        pytest.raises(type(error)),
        RunDir.create(tmp_path / "run", kind="ppo", settings={}, lineage={}) as run,
    ):
        run.set_status("running", step=2)
        raise error
    assert (read_status(tmp_path / "run").state, read_status(tmp_path / "run").step) == (state, 2)
    assert not is_held(tmp_path / "run")
