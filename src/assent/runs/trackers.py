"""Metrics for the viewers people use: TensorBoard events, W&B, trackio. `metrics.jsonl` is the run folder's own."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from assent.durable import writing
from assent.errors import ConfigError

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


class Tracker(Protocol):
    """Takes the metrics of a step; numbers that are not finite are passed on where the viewer knows them."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one step."""

    def close(self) -> None:
        """Write what is left and let go."""


class TensorBoardTracker:
    """Event files in a folder, one more for each start. `resumed_at` hides the steps after it that were cut off."""

    def __init__(self, folder: Path, *, resumed_at: int | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            number = 1 + len(list(folder.glob("events.out.tfevents.*")))
            self._path = folder / f"events.out.tfevents.{number:08d}.assent"  # in order of name, as viewers read them
            self._file = self._path.open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=clock(), file_version="brain.Event:2"))
        if resumed_at is not None:
            started = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=clock(), step=resumed_at + 1, session_log=started))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one step; a viewer sees them at once."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(Event(wall_time=self._clock(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the event file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        with writing(self._path, safe="The run's own metrics.jsonl is intact."):
            self._records.write(event.SerializeToString())
            self._file.flush()


class ServiceTracker:
    """A run of W&B or of trackio; with `finite`, numbers that are not finite are left out."""

    def __init__(self, run: Any, *, finite: bool = False) -> None:
        self._run, self._finite = run, finite

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one step."""
        known = {name: value for name, value in metrics.items() if not self._finite or math.isfinite(value)}
        self._run.log(known, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def wandb(folder: Path, *, project: str, name: str, settings: Mapping[str, Any]) -> ServiceTracker:
    """A W&B run kept in `folder`. Offline unless the environment says WANDB_MODE=online: nothing leaves unasked."""
    package = _extra("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    return ServiceTracker(package.init(project=project, name=name, dir=str(folder), config=dict(settings), mode=mode))


def trackio(*, project: str, name: str, settings: Mapping[str, Any]) -> ServiceTracker:
    """A trackio run in trackio's own folder on this machine (TRACKIO_DIR moves it). It stores JSON: finite numbers."""
    run = _extra("trackio").init(project=project, name=name, config=dict(settings), resume="allow")
    return ServiceTracker(run, finite=True)


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse an unknown name, or one whose package is absent, before anything is written. Raises ConfigError."""
    for chosen in names:
        if chosen not in _PACKAGES:
            now = f"Choose from {', '.join(_PACKAGES)}."
            raise ConfigError(f'there is no tracker "{chosen}"', where="trackers", now=now)
        if importlib.util.find_spec(_PACKAGES[chosen]) is None:
            _extra(_PACKAGES[chosen])


def open_trackers(
    names: tuple[str, ...],
    folder: Path,
    *,
    project: str,
    name: str,
    settings: Mapping[str, Any],
    resumed_at: int | None = None,
) -> list[Tracker]:
    """The trackers called `names` (tensorboard, wandb, trackio), each with a folder of its own below `folder`.

    Raises ConfigError for an unknown name, or where an optional package is absent.
    """
    choices: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoardTracker(folder / "tensorboard", resumed_at=resumed_at),
        "wandb": lambda: wandb(folder / "wandb", project=project, name=name, settings=settings),
        "trackio": lambda: trackio(project=project, name=name, settings=settings),
    }
    check_trackers(names)
    return [choices[chosen]() for chosen in dict.fromkeys(names)]


def _extra(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        now = f'Install it with: pip install "assent[{package}]"'
        raise ConfigError(f"the tracker needs the package {package}, which is not installed", now=now) from None
