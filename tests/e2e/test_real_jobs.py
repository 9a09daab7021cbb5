"""The real jobs, cut to a few steps, on the real model and the real files; skipped where either cannot be had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assent.errors import ConfigError
from examples.real import arithmetic, detoxify, models, preferences
from examples.real.job import Job

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
JOBS: dict[str, tuple[Callable[[Job], Any], set[str]]] = {
    "preferences": (
        preferences.run,
        {"sft", "reward", "judge", "reward-on-helpful", "reward-on-pandalm", "ppo", "dpo", "ppo-by-the-judge",
         "dpo-by-the-judge", "ppo-on-facts", "hhh"},
    ),
    "detoxify": (
        detoxify.run,
        {"classifier", "detoxified", "without-kl", "detoxified-continuations", "without-kl-continuations", "neutral"},
    ),
    "arithmetic": (arithmetic.run, {"sft", "ppo", "grpo", "sft-on-own", "ppo-on-own", "grpo-on-own"}),
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not SHARED.is_dir(), reason="shared data folder is absent"),
]


@pytest.fixture(scope="module")
def packages() -> None:
    try:
        models.chat_model(), models.encoder()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", JOBS)
def test_a_cut_of_the_job_measures_what_the_job_is_about(
    name: str, packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSIFIER", "")  # so that the job's own setting is taken back
    run, runs = JOBS[name]
    found = run(Job(data=SHARED, out=tmp_path, short=True))
    assert set(found) == {*runs, "all"} and found["all"]["seconds"] > 0
    assert json.loads((tmp_path / "figures.json").read_text()) == found
    assert "<html" in (tmp_path / "report.html").read_text()
    for part in runs:
        for what, value in found[part].items():
            if isinstance(value, list):
                mean, low, high, n = value
                assert low <= mean <= high and n > 0, (part, what)
