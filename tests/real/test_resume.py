"""A run on the real model that was killed goes on bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_jobs import LORA, Job, Killed, fingerprint, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("kind", ["sft", "dpo", "ppo"])
def test_a_killed_run_of_an_adapter_goes_on_as_if_nothing_had_happened(kind: str, folder: Path, tmp_path: Path) -> None:
    few = {"normalise_prompts": 8} if kind == "ppo" else {"epochs": 1}
    job, folders = Job(kind=kind, model="real", lora=LORA, settings=few, ticks=3), {"real": folder}
    train(job, folders, tmp_path / "whole", every=1000)
    with pytest.raises(Killed):
        train(job, folders, tmp_path / "cut", kill_after=2)
    train(job, folders, tmp_path / "cut", every=1000, resume=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")
    assert fingerprint(tmp_path / "whole")["step"] == "step-00000003"
