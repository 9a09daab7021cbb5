"""NaN and infinity: the update is skipped, the batch is kept, the weights stay good, three in a row stop the run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_jobs import CPU, PPO, PROMPTS, TRAINED, Job, job_of, train, train_ppo

import assent.algorithms.sft
from assent.algorithms.loop import SkipGuard, Watch
from assent.algorithms.ppo import PPOSettings
from assent.backends.local.learner import LocalLearner
from assent.errors import RunError
from assent.losses.supervised import SupervisedLoss
from assent.model.checkpoints import CheckpointStore, load_state
from assent.ports.learning import Outputs
from assent.recipes.run.models import load_language_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.runs.folder import RunDir

SFT = Job(kind="sft")


def break_losses(monkeypatch: pytest.MonkeyPatch, bad_calls: set[int]) -> None:
    """The loss function gives nan at the calls named (two micro-batches a step at most, so calls are counted)."""
    right, calls = assent.algorithms.sft.supervised_loss, 0

    def sometimes_nan(logp_N: Tensor, mask_N: Tensor, *, step_tokens: float) -> SupervisedLoss:
        nonlocal calls
        calls += 1
        found = right(logp_N, mask_N, step_tokens=step_tokens)
        return replace(found, loss=found.loss * float("nan")) if calls in bad_calls else found

    monkeypatch.setattr(assent.algorithms.sft, "supervised_loss", sometimes_nan)


def rows_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_bad_update_is_skipped_counted_and_kept(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_losses(monkeypatch, {4})
    train(SFT, folders, tmp_path / "run")
    skipped = [row["step"] for row in rows_of(tmp_path / "run") if row["skipped_updates"]]
    assert len(skipped) == 1 and len(rows_of(tmp_path / "run")) == 6
    (kept,) = (tmp_path / "run" / "bad-batches").iterdir()
    assert kept.name == f"step-{skipped[0]:06d}.json"
    document = json.loads(kept.read_text())
    assert document["step"] == skipped[0] and "nan" in [batch["loss"] for batch in document["micro_batches"]]
    sequences = [sequence for batch in document["micro_batches"] for sequence in batch["sequences"]]
    assert len(sequences) in (3, 4) and all(isinstance(token, int) for token in sequences[0])


def test_checkpoints_after_a_skipped_update_are_finite(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_losses(monkeypatch, {1, 5})
    train(SFT, folders, tmp_path / "run")
    restored = CheckpointStore(tmp_path / "run" / "checkpoints").newest()
    assert restored is not None and restored.step == 6
    assert all(torch.isfinite(tensor.double()).all() for tensor in load_state(restored.folder).tensors.values())


def test_three_in_a_row_stop_the_run_and_the_last_good_checkpoint_stays(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_losses(monkeypatch, set(range(3, 100)))
    with pytest.raises(RunError, match="3 times in a row") as caught:
        train(SFT, folders, tmp_path / "run")
    assert "bad-batches" in str(caught.value) and len(list((tmp_path / "run" / "bad-batches").iterdir())) == 3
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    restored = CheckpointStore(tmp_path / "run" / "checkpoints").newest()
    assert restored is not None
    assert all(torch.isfinite(tensor.double()).all() for tensor in load_state(restored.folder).tensors.values())


def test_the_guard_counts_updates_not_rows_and_forgets_after_a_good_one() -> None:
    guard = SkipGuard()
    for skipped in (1.0, 1.0, 0.0, 1.0, 1.0):
        guard.see({"skipped_updates": skipped}, 1)
    with pytest.raises(RunError):
        guard.see({"skipped_updates": 1.0}, 6)
    guard = SkipGuard()
    guard.see({"skipped_updates": 3.0, "updates": 4.0}, 1)
    with pytest.raises(RunError, match="4 times"):
        SkipGuard().see({"skipped_updates": 4.0, "updates": 4.0}, 1)


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_skips_an_update_with_bad_numbers_and_goes_on(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the second pass with a gradient gives is nan."""
    right, passes = LocalLearner._forward, 0

    def broken(self: LocalLearner, *given: object, **measuring: object) -> Outputs:
        nonlocal passes
        if measuring:  # how much a pass keeps, before any update
            return right(self, *given, **measuring)
        passes += torch.is_grad_enabled()
        found = right(self, *given)
        bad = {key: column * math.nan for key, column in found.columns.items()}
        return Outputs(columns=bad) if torch.is_grad_enabled() and passes == 2 else found

    monkeypatch.setattr(LocalLearner, "_forward", broken)
    train(job_of(name), folders, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert sum(row["skipped_updates"] for row in rows) == 1 and len(rows) == job_of(name).ticks
    assert len(list((tmp_path / "run" / "bad-batches").iterdir())) == 1
    restored = CheckpointStore(tmp_path / "run" / "checkpoints").newest()
    assert restored is not None
    assert all(torch.isfinite(tensor.double()).all() for tensor in load_state(restored.folder).tensors.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_reward_names_the_completion_and_updates_nothing(
    bad: float, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    before = {name: tensor.clone() for name, tensor in model.role.body.model.state_dict().items()}
    settings = PPOSettings(**{**PPO, "critic": "shared"})
    seen: list[str] = []

    def reward(prompts: list[str], texts: list[str]) -> list[float]:
        seen.extend(texts)
        return [0.5] * (len(texts) - 1) + [bad]

    with pytest.raises(RunError, match=str(bad)) as caught:
        train_ppo(model, PROMPTS, settings, seed=1, reward=FunctionScorer(reward))
    assert repr(seen[-1][:80]) in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.role.body.model.state_dict().items())


def test_a_scorer_that_does_not_check_its_numbers_is_checked(folders: dict[str, Path]) -> None:
    class Careless:
        def score(self, prompts: object, completions: list[object]) -> list[float]:
            return [math.nan] * len(completions)

    model = load_language_model(str(folders["llama"]), machine=CPU)
    with pytest.raises(RunError, match="the reward of a completion is nan"):
        train_ppo(model, PROMPTS, PPOSettings(**{**PPO, "critic": "shared"}), seed=1, reward=Careless())


def test_a_policy_whose_weights_are_broken_stops_before_an_update(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    with torch.no_grad():
        model.role.body.model.get_output_embeddings().weight[7] = math.nan
    run = RunDir.create(tmp_path / "run", kind="ppo", settings={}, lineage={})
    with run, pytest.raises(RunError, match="not finite"):
        train_ppo(
            model, PROMPTS, PPOSettings(**{**PPO, "critic": "shared"}), seed=1,
            reward=FunctionScorer(lambda prompts, texts: [float(len(text)) for text in texts]), watch=Watch(run=run),
        )  # fmt: skip
