"""An interrupted run is an uninterrupted one, bit for bit: weights, moments, generators, order, coefficients, rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fakes import Quoting
from training_jobs import LORA, TRAINED, Job, Killed, fingerprint, job_of, train

from assent.backends.local import learner
from assent.backends.local.learner import LocalLearner
from assent.backends.local.sampler import RewardScorer
from assent.errors import Interrupted, RunError
from assent.interrupts import StopRequest
from assent.model.body import Body
from assent.ports.learning import Need

JOBS = {
    **{f"{name} as it comes": job_of(name) for name in TRAINED if name not in ("sft", "reward", "dpo", "ppo")},
    "sft": Job(kind="sft"),
    "sft with dropout": Job(kind="sft", model="gpt2", settings={"dropout": "model"}),
    "sft of an adapter": Job(kind="sft", model="qwen3", lora=LORA),
    "reward": Job(kind="reward", model="qwen2"),
    "reward adapter": Job(kind="reward", lora=LORA),
    "dpo": Job(kind="dpo"),
    "dpo of an adapter": Job(kind="dpo", lora=LORA),
    "ilql of an adapter": Job(kind="ilql", model="qwen3", lora=LORA, settings={"target_step": 0.3}),
    "ppo, shared critic": Job(kind="ppo", settings={"critic": "shared"}, ticks=3),
    "ppo, separate critic": Job(kind="ppo", model="mistral", ticks=3),
    "ppo of an adapter": Job(kind="ppo", lora=LORA, ticks=3),
    "grpo with PTX": Job(kind="grpo", settings={"ptx_coef": 0.5, "ptx_batch_size": 3}, ticks=3),
    "online dpo of three": Job(kind="online_dpo", settings={"samples_per_prompt": 3, "kl_coef": 0.1}, ticks=3),
    "ppo_lagrangian of an adapter": Job(kind="ppo_lagrangian", lora=LORA, ticks=3),
    "ppo in an environment that changes with the policy": Job(
        kind="ppo", settings={"critic": "shared", "top_k": 4}, ticks=3, environment=Quoting
    ),
    "ppo, KL in the loss": Job(kind="ppo", settings={"critic": "shared", "kl_in": "loss", "target_kl": 0.02}, ticks=3),
}
CUTS = {6: (1, 3, 5), 3: (1, 2)}  # mid-epoch, at an epoch's end; of PPO: after an iteration


@pytest.fixture(scope="module")
def uninterrupted(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Fingerprints of the whole runs, each with a checkpoint at the end alone."""
    root = tmp_path_factory.mktemp("uninterrupted")
    found = {}
    for name, job in JOBS.items():
        train(job, folders, root / name, every=1000)
        found[name] = fingerprint(root / name)
        assert found[name]["step"].endswith(str(job.ticks))
    return found


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    name: str, folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]]
) -> None:
    job = JOBS[name]
    for place, cut in enumerate(CUTS[job.ticks]):
        with pytest.raises(Killed):
            train(job, folders, tmp_path / "run", kill_after=cut, resume=place > 0)
    train(job, folders, tmp_path / "run", resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted[name]


@pytest.mark.parametrize("name", ["sft with dropout", "reward", "dpo", "ppo, shared critic"])
def test_work_after_the_last_checkpoint_is_done_again_the_same(
    name: str, folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]]
) -> None:
    """The checkpoint is older than the cut, so rows of metrics that were written have to be cut back."""
    job = JOBS[name]
    with pytest.raises(Killed):
        train(job, folders, tmp_path / "run", every=job.ticks // 3, kill_after=job.ticks // 3 * 2 - 1)
    train(job, folders, tmp_path / "run", every=1000, resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted[name]


@pytest.mark.parametrize(
    "name", ["sft", "sft with dropout", "reward", "dpo", "ppo, shared critic", "ppo, separate critic"]
)
def test_a_run_killed_in_the_middle_of_accumulation_goes_on_from_its_checkpoint(
    name: str, folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The process dies in the second micro-batch of a later step: half a gradient must leave no trace."""
    whole, passes = LocalLearner._forward, 0
    whole_step, steps = LocalLearner._step, 0

    def dying(self: LocalLearner, run: object, need: Need, hidden_MH: object = None) -> object:
        nonlocal passes
        passes += torch.is_grad_enabled()
        if steps == 2 and passes == 2:
            raise Killed
        return whole(self, run, need, hidden_MH)

    def counting(self: LocalLearner, *arguments: object) -> object:
        nonlocal passes, steps
        passes, steps = 0, steps + 1
        return whole_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LocalLearner, "_forward", dying)
        patch.setattr(LocalLearner, "_step", counting)
        with pytest.raises(Killed):
            train(JOBS[name], folders, tmp_path / "run")
    assert (steps, passes) == (2, 2)
    train(JOBS[name], folders, tmp_path / "run", resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted[name]


@pytest.mark.parametrize(
    ("name", "stop_after", "saved"), [("sft", 4, 3), ("sft with dropout", 4, 3), ("ppo, separate critic", 3, 2)]
)
def test_a_stop_request_saves_and_the_run_goes_on_the_same(
    name: str, stop_after: int, saved: int, folders: dict[str, Path], tmp_path: Path,
    uninterrupted: dict[str, dict[str, str]],
) -> None:  # fmt: skip
    """A step is abandoned between two micro-batches, an iteration while its completions are being written."""
    job = JOBS[name]
    with pytest.raises(Interrupted, match=f"stopped after {saved} of {job.ticks}"):
        train(job, folders, tmp_path / "run", every=1000, stop_after=stop_after)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-0000000{saved}"]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "interrupted"
    train(job, folders, tmp_path / "run", every=1000, resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted[name]


PHASES = {  # what is called there, and the call in the second iteration at which the stop comes
    "prompts being read": ((Body, "hidden"), 1),
    "completions being written": ((Body, "next_hidden"), 3),
    "completions being scored": ((RewardScorer, "score"), 1),
    "statistics": ((LocalLearner, "score"), 1),
    "the first update": ((LocalLearner, "_forward"), 3),
    "between two updates": ((LocalLearner, "_step"), 1),
    "a later update": ((LocalLearner, "_accumulate"), 3),
}


@pytest.mark.parametrize("name", ["ppo, shared critic", "ppo of an adapter"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_amid_an_iteration_abandons_it(
    name: str, phase: str, folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stop, rows, calls = StopRequest(), tmp_path / "run" / "metrics.jsonl", 0
    where, wanted = PHASES[phase]
    whole = getattr(*where)

    def stopping(self: object, *arguments: object, **named: object) -> object:
        nonlocal calls
        if rows.exists() and rows.read_text():  # the first iteration is done
            calls += 1
            if calls == wanted:
                stop.request()
        return whole(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(*where, stopping)
        with pytest.raises(Interrupted, match="stopped after 1 of 3 iterations; everything up to here is saved"):
            train(JOBS[name], folders, tmp_path / "run", every=1000, stop=stop)
    assert calls >= wanted and len(rows.read_text().splitlines()) == 1
    train(JOBS[name], folders, tmp_path / "run", every=1000, resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted[name]


def test_updates_are_finished_where_no_copy_of_the_weights_fits(
    folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, stop, whole = "ppo, shared critic", StopRequest(), LocalLearner._step

    def stopping(self: LocalLearner, *arguments: object) -> object:
        stop.request()
        return whole(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(learner, "free_memory_bytes", lambda device: 1 << 10)
        patch.setattr(LocalLearner, "_step", stopping)
        with pytest.raises(Interrupted, match="stopped after 1 of 3 iterations; everything up to here is saved"):
            train(JOBS[name], folders, tmp_path / "run", every=1000, stop=stop)
    train(JOBS[name], folders, tmp_path / "run", every=1000, resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted[name]


def test_a_stop_in_the_first_iteration_leaves_a_run_that_can_be_resumed(
    folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]]
) -> None:
    name, stop = "ppo, shared critic", StopRequest()
    stop.request()
    with pytest.raises(Interrupted, match="stopped after 0 of 3 iterations"):
        train(JOBS[name], folders, tmp_path / "run", every=1000, stop=stop)
    train(JOBS[name], folders, tmp_path / "run", every=1000, resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted[name]


def test_a_resume_falls_back_to_an_older_checkpoint_when_the_newest_is_damaged(
    folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]]
) -> None:
    with pytest.raises(Killed):
        train(JOBS["dpo"], folders, tmp_path / "run", kill_after=4)
    damaged = tmp_path / "run" / "checkpoints" / "step-00000004" / "tensors.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    train(JOBS["dpo"], folders, tmp_path / "run", resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted["dpo"]


def test_a_run_without_a_checkpoint_begins_anew(
    folders: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, dict[str, str]]
) -> None:
    with pytest.raises(Killed):
        train(JOBS["sft"], folders, tmp_path / "run", every=1000, kill_after=4)
    train(JOBS["sft"], folders, tmp_path / "run", every=1000, resume=True)
    assert fingerprint(tmp_path / "run") == uninterrupted["sft"]


def test_resuming_a_complete_run_is_an_error(folders: dict[str, Path], tmp_path: Path) -> None:
    train(JOBS["sft"], folders, tmp_path / "run", every=1000)
    before = fingerprint(tmp_path / "run")
    with pytest.raises(RunError, match=r"complete \(6 of 6 steps\)"):
        train(JOBS["sft"], folders, tmp_path / "run", resume=True)
    assert fingerprint(tmp_path / "run") == before
