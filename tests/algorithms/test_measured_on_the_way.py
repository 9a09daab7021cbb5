"""What a run measures on the way: held-out data from step 0 on, times and memory; and checkpoints by time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import LengthScorer
from running import rows_of
from training_jobs import CPU, LORA, PPO, PROMPTS, Killed, comparisons, demonstrations, train_ppo

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.loop import Watch
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.ppo import PPO as METHOD
from assent.algorithms.ppo import PPOSettings
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.backends.local.learner import LocalLearner
from assent.errors import ConfigError, Interrupted
from assent.interrupts import StopRequest
from assent.metrics import Metrics, Stopwatch, without_timings
from assent.model.checkpoints import CheckpointStore
from assent.recipes.run.models import load_language_model, new_reward_model
from assent.recipes.training.prepare import Prepared, prepare_offline
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.runs.folder import RunDir
from assent.types import Rating

SETTINGS: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 3e-3}


def prepared(kind: str, folders: dict[str, Path], **more: Any) -> Prepared[Any]:
    """Of a training of six steps, the first eight examples trained on and the rest held out."""
    if kind == "reward":
        model = new_reward_model(str(folders["llama"]), machine=CPU, seed=5)
        method, settings, examples = REWARD_MODEL, RewardSettings(**SETTINGS | more), comparisons()
    else:
        model = load_language_model(str(folders["llama"]), machine=CPU)
        method, settings = (
            (SFT, SFTSettings(**SETTINGS | more)) if kind == "sft" else (DPO, DPOSettings(**SETTINGS | more))
        )
        examples = demonstrations() if kind == "sft" else comparisons()
    return prepare_offline(method, model, examples[:8], settings, seed=5, held_out=examples[8:])


@pytest.mark.parametrize(
    ("kind", "measured"), [("sft", "eval_loss"), ("reward", "eval_accuracy"), ("dpo", "eval_loss")]
)
def test_held_out_data_is_measured_before_during_and_after(kind: str, measured: str, folders: dict[str, Path]) -> None:
    rows = prepared(kind, folders, evaluate_every=3).run()
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["step"] for row in rows if measured in row] == [0, 3, 4]
    if kind == "dpo":
        assert rows[0]["eval_loss"] == pytest.approx(0.6931, abs=1e-4), "the policy is its own reference"


def test_ppo_measures_the_reward_of_held_out_prompts_from_the_start(folders: dict[str, Path]) -> None:
    def rows(**more: Any) -> list[Metrics]:
        model = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA)
        settings = PPOSettings(**PPO | {"iterations": 3, **more})
        watched = Observer(held_out=tuple(PROMPTS[:3]))
        return train_ppo(model, PROMPTS, settings, seed=1, reward=LengthScorer(), observer=watched)

    found, plain = rows(evaluate_every=2), rows()
    assert [row["iteration"] for row in found if "eval_reward" in row] == [0, 2, 3]
    kept = [{name: value for name, value in row.items() if name != "eval_reward"} for row in found[1:]]
    assert kept == plain, "looking changes nothing"
    with pytest.raises(ConfigError, match="no held-out prompts"):
        model = load_language_model(str(folders["llama"]), machine=CPU)
        settings = PPOSettings(**PPO | {"evaluate_every": 2})
        train_ppo(model, PROMPTS, settings, seed=1, reward=LengthScorer())


def test_every_row_says_where_its_time_went_and_how_much_memory_there_was(folders: dict[str, Path]) -> None:
    for row in prepared("sft", folders).run():
        assert row["seconds"] == row["seconds/update"] > 0 and row["tokens_per_second"] > 0
        assert row["peak_memory_mib"] > 1
    model = load_language_model(str(folders["llama"]), machine=CPU)
    settings = PPOSettings(**PPO | {"iterations": 1})
    rows = prepare_on_policy(METHOD, model, PROMPTS, settings, seed=1, reward=LengthScorer()).run()
    phases = {name: value for name, value in rows[0].items() if name.startswith("seconds/")}
    assert [*phases] == ["seconds/rollout", "seconds/reward", "seconds/score", "seconds/update"]
    assert rows[0]["seconds"] == pytest.approx(sum(phases.values()))


def test_a_stopwatch_adds_up_phases_that_come_again() -> None:
    times = iter([0.0, 2.0, 10.0, 13.0, 20.0, 21.0])
    watch = Stopwatch(lambda: next(times))
    for name in ("read", "write", "read"):
        with watch.phase(name):
            pass
    row = watch.row(12)
    assert row == {"seconds/read": 3.0, "seconds/write": 3.0, "seconds": 6.0, "tokens_per_second": 2.0}
    assert without_timings({**row, "loss": 1.0, "peak_memory_mib": 3.0}) == {"loss": 1.0}


def test_slow_steps_are_saved_by_time(folders: dict[str, Path], tmp_path: Path) -> None:
    """Steps of 7 minutes by the clock and a checkpoint every 10: after the steps 2 and 4 of 4."""
    now, saved = [0.0], list[int]()
    with RunDir.create(tmp_path / "run", kind="sft", settings={}, lineage={}) as run:
        store = CheckpointStore(run.checkpoints, keep=9)

        def on_tick(done: int, total: int, row: Metrics) -> None:
            now[0] += 7 * 60
            saved[:] = store.steps()

        watch = Watch(run=run, checkpoints=store, checkpoint_every=1000, checkpoint_minutes=10, on_tick=on_tick,
                      clock=lambda: now[0])  # fmt: skip
        prepared("sft", folders).run(watch)
        assert store.steps() == [3, 4]


def test_training_starts_from_the_fitted_head_where_there_is_one(folders: dict[str, Path]) -> None:
    fitted = new_reward_model(str(folders["llama"]), machine=CPU, seed=5)
    prepare_offline(REWARD_MODEL, fitted, comparisons()[:8], RewardSettings(train="head"), seed=5).run()
    first = prepared("reward", folders, learning_rate=1e-9)
    assert any("head_first" in note for note in first.notes)
    rows = first.run()
    started = prepared("reward", folders, head_first=False, learning_rate=1e-9).run()
    assert started[0]["loss"] > rows[0]["loss"], "the fitted head already tells them apart"


def test_labels_and_trained_heads_start_as_they_are(folders: dict[str, Path]) -> None:
    rated = [Rating(prompt=one.prompt, completion=one.chosen, score=float(place % 2))
             for place, one in enumerate(comparisons())]  # fmt: skip
    reward = new_reward_model(str(folders["llama"]), machine=CPU, seed=5)
    assert not prepare_offline(REWARD_MODEL, reward, rated, RewardSettings(**SETTINGS), seed=5).notes


def test_a_run_cut_while_the_head_is_fitted_or_after_goes_on_the_same(folders: dict[str, Path], tmp_path: Path) -> None:
    def run(name: str, *, resume: bool = False, kill: int | None = None, stop: StopRequest | None = None) -> None:
        def on_tick(done: int, total: int, row: Metrics) -> None:
            if done == kill:
                raise Killed

        opened = RunDir.open_for_resume if resume else RunDir.create
        more = {} if resume else {"kind": "reward"}
        with opened(tmp_path / name, settings={}, lineage={}, **more) as place:
            watch = Watch(run=place, checkpoints=CheckpointStore(place.checkpoints), checkpoint_every=1,
                          stop=stop or StopRequest(), on_tick=on_tick)  # fmt: skip
            prepared("reward", folders, evaluate_every=2).run(watch, resume=resume)

    run("whole")
    assert [row["step"] for row in rows_of(tmp_path / "whole")] == [0, 1, 2, 3, 4]
    asked = StopRequest()
    asked.request()
    with pytest.raises(Interrupted, match="stopped after 0 of 4 steps"):
        run("cut", stop=asked)
    with pytest.raises(Killed):
        run("cut", resume=True, kill=0)
    with pytest.raises(Killed):
        run("cut", resume=True, kill=2)
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        whole = LocalLearner.update
        patch.setattr(
            LocalLearner, "update", lambda self, *given, **more: steps.append(1) or whole(self, *given, **more)
        )
        run("cut", resume=True)
    assert len(steps) == 2
    assert json.dumps(rows_of(tmp_path / "cut")) == json.dumps(rows_of(tmp_path / "whole"))
