from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assent.errors import ConfigError
from assent.runs.trackers import TensorBoardTracker, open_trackers


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    [tracker] = open_trackers(("tensorboard",), tmp_path, project="p", name="n", settings={})
    tracker.log(1, {"loss": 0.5, "kl": math.nan})
    tracker.log(2, {"loss": 0.25})
    assert scalars(tmp_path / "tensorboard", "loss") == [(1, 0.5), (2, 0.25)], "seen while the run goes on"
    assert math.isnan(scalars(tmp_path / "tensorboard", "kl")[0][1])
    tracker.close()


def test_a_resumed_run_hides_the_steps_that_were_cut(tmp_path: Path) -> None:
    first = TensorBoardTracker(tmp_path, clock=lambda: 1.0)
    for step in (1, 2, 3):
        first.log(step, {"loss": float(step)})
    first.close()
    second = TensorBoardTracker(tmp_path, resumed_at=1, clock=lambda: 2.0)
    second.log(2, {"loss": 20.0})
    second.close()
    assert scalars(tmp_path, "loss") == [(1, 1.0), (2, 20.0)]


def test_unknown_trackers_are_refused_before_any_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no tracker "tensorbord"'):
        open_trackers(("tensorboard", "tensorbord"), tmp_path, project="p", name="n", settings={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_an_absent_extra_is_named_with_the_way_to_get_it(tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(ConfigError, match=rf'pip install "assent\[{name}\]"'):
        open_trackers((name,), tmp_path, project="p", name="n", settings={})
