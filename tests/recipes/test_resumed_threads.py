"""A resumed run computes with as many threads as it began with, because its bits may depend on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from assent.config import parse
from assent.recipes.run.inputs import Files
from assent.recipes.run.job_settings import ExamplesJob
from assent.recipes.run.jobs import check_output
from assent.runs.folder import RunDir


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


def begun(folder: Path, threads: int) -> Files:
    RunDir.create(folder, kind="sft", settings={}, lineage={"threads": threads}).close()
    return Files(model="", out=folder, resume=True)


def test_the_number_of_threads_is_that_of_the_start(tmp_path: Path) -> None:
    check_output(begun(tmp_path / "two", 2), ExamplesJob(trackers=()))
    assert torch.get_num_threads() == 2
    check_output(Files(model="", out=tmp_path / "new"), ExamplesJob(trackers=()))
    assert torch.get_num_threads() == 2


def test_settings_may_say_otherwise_and_then_it_is_said(tmp_path: Path) -> None:
    files = begun(tmp_path / "two", 2)
    check_output(files, parse(ExamplesJob, overrides=["trackers=[]", "machine.threads=1"]))
    assert torch.get_num_threads() == 1
    with RunDir.open_for_resume(files.out, settings={}, lineage={"threads": 1}) as run:
        assert run.warnings == (
            "resumed under another condition, results may differ in their last bits: threads: 2 -> 1",
        )
