"""A run that breaks before its first row leaves nothing behind; what has a row, was stopped or is a RunError stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from assent.config import parse
from assent.errors import ConfigError, DataError, Interrupted, RunError
from assent.recipes.run.inputs import Files
from assent.recipes.run.job_settings import job_settings
from assent.recipes.run.jobs import Training, open_job
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request


def broken(out: Path, error: BaseException, *, rows: int = 0, resume: bool = False) -> None:
    request = Request(name="sft", files=Files(model="m", out=out, resume=resume))
    settings = parse(job_settings("sft"), base={"trackers": []})
    with (
        pytest.raises(type(error)),
        open_job(request, settings, Display(quiet=True), Training(prepared=None, save=lambda folder: None)) as job,
    ):
        for step in range(rows):
            job.run.metrics.append(step + 1, {"loss": 1.0})
        raise error


@pytest.mark.parametrize("error", [IndexError("row 401"), MemoryError(), ConfigError("x"), DataError("x")])
def test_nothing_is_left_of_a_run_that_never_began(error: Exception, tmp_path: Path) -> None:
    broken(tmp_path / "out", error)
    assert not (tmp_path / "out").exists()
    broken(tmp_path / "out", error)  # the place is free


@pytest.mark.parametrize("error", [RunError("bad batches"), Interrupted("stopped"), KeyboardInterrupt()])
def test_a_run_that_was_stopped_or_tells_of_itself_stays(error: BaseException, tmp_path: Path) -> None:
    broken(tmp_path / "out", error)
    assert (tmp_path / "out" / "status.json").is_file()


def test_a_run_with_rows_stays_and_so_does_one_that_is_resumed(tmp_path: Path) -> None:
    broken(tmp_path / "rows", IndexError(), rows=2)
    assert (tmp_path / "rows" / "metrics.jsonl").is_file()
    broken(tmp_path / "begun", RunError("x"))
    broken(tmp_path / "begun", IndexError(), resume=True)
    assert (tmp_path / "begun" / "status.json").is_file()
