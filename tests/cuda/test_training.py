"""Whole training runs on a CUDA device: they learn, begin at the reference, and go on from a checkpoint bit for bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import training_jobs
from on_cuda import every_precision, needs_cuda
from training_jobs import LORA, Job, Killed, fingerprint, train

from assent.model.body import Precision
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model

pytestmark = needs_cuda
JOBS = {
    "sft": Job(kind="sft"),
    "sft of an adapter": Job(kind="sft", model="qwen3", lora=LORA),
    "reward": Job(kind="reward", model="qwen2"),
    "reward adapter": Job(kind="reward", lora=LORA),
    "dpo": Job(kind="dpo"),
    "dpo of an adapter": Job(kind="dpo", lora=LORA),
    "ppo, shared critic": Job(kind="ppo", settings={"critic": "shared"}, ticks=15),
    "ppo, separate critic": Job(kind="ppo", model="mistral", ticks=15),
    "ppo of an adapter": Job(kind="ppo", lora=LORA, ticks=15),
    "ppo of an adapter, shared critic": Job(kind="ppo", lora=LORA, settings={"critic": "shared"}, ticks=15),
    "ppo, KL in the loss": Job(kind="ppo", settings={"critic": "shared", "kl_in": "loss"}, ticks=15),
}


@pytest.fixture
def precise(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs run on the device that is found, in that precision."""
    monkeypatch.setattr(training_jobs, "CPU", MachineOptions(precision=precision))


def test_the_device_is_found_by_itself(folders: dict[str, Path]) -> None:
    assert MachineOptions().pick().type == "cuda"
    model = load_language_model(str(folders["llama"]), machine=MachineOptions())
    assert next(model.role.body.model.parameters()).device.type == "cuda"
    assert MachineOptions(device="cpu").pick().type == "cpu"


@every_precision
@pytest.mark.usefixtures("precise")
@pytest.mark.parametrize("name", JOBS)
def test_a_run_learns(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    job = JOBS[name]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    rows = train(job, folders, tmp_path / "run").rows
    assert torch.cuda.max_memory_allocated() > before
    assert all(math.isfinite(value) for row in rows for value in row.values())
    if job.kind != "ppo":
        first, last = ([row["loss"] for row in part] for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]))
        assert sum(last) / len(last) < sum(first) / len(first)
        return
    assert abs(rows[0]["kl"]) < 1e-5  # the policy is its reference
    assert rows[-1]["kl"] > 1e-4


@every_precision
@pytest.mark.usefixtures("precise")
@pytest.mark.parametrize("name", JOBS)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    job = JOBS[name]
    train(job, folders, tmp_path / "whole", every=1000)
    for place, cut in enumerate((job.ticks // 2, job.ticks - 2)):
        with pytest.raises(Killed):
            train(job, folders, tmp_path / "run", kill_after=cut, resume=place > 0)
    train(job, folders, tmp_path / "run", resume=True)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
