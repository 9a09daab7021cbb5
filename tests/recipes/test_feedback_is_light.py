"""The commands about judgement start fast: they load no library of models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from assent.feedback.records import ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore

RUN = """
import sys
from assent.cli import main
code = main(sys.argv[1:])
sys.exit(code or (3 if {"torch", "transformers", "datasets"} & sys.modules.keys() else 0))
"""


def test_figures_of_a_store_load_no_torch(tmp_path: Path) -> None:
    with FeedbackStore.open(str(tmp_path / "feedback.db")) as store:
        store.create_project("helpful", ProjectSettings(mode=TaskMode.PAIRWISE))
    command = [sys.executable, "-c", RUN, "feedback", "stats", "--store", str(tmp_path / "feedback.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'project "helpful"' in done.stdout
