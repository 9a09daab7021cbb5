"""The one training loop: ticks, rows of metrics, checkpoints, stop requests, and the guard against bad numbers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from assent.algorithms.estimate import Estimate
from assent.durable import write_atomic, writing
from assent.errors import Interrupted, RunError
from assent.interrupts import StopRequest, StopRequested
from assent.metrics import Metrics
from assent.model.checkpoints import CheckpointStore
from assent.model.memory import peak_memory_mib
from assent.ports.learning import SkippedBatch
from assent.runs.folder import RunDir

SKIPS_BEFORE_STOP = 3


class Task(Protocol):
    """What an algorithm gives the loop: `total` ticks, each a row of metrics and a place where a checkpoint may lie.

    `skipped_batches` are of updates without effect; the loop keeps them for inspection and clears the list.
    """

    total: int
    unit: str
    skipped_batches: list[SkippedBatch]

    def estimate(self) -> Estimate | None:
        """What the whole run will take, if that can be told before; changes nothing."""

    def begin(self, stop: StopRequest) -> Metrics:
        """What is done and measured before the first tick, if anything; a run resumed from a checkpoint has done it."""

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """Do tick `index`. A long one may let `stop.check` raise, and has then changed nothing."""

    def save(self, folder: Path) -> dict[str, str]:
        """Write everything that ticks change into a folder; gives the sha256 of each file by name."""

    def load(self, folder: Path) -> None:
        """The reverse of `save`: tick i then does what it would have done without a cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who sees the run: its folder and checkpoints (None: nothing is kept), the stop flag, and a progress display.

    A checkpoint is saved every `checkpoint_every` ticks and, of slow ones, every `checkpoint_minutes` (0: never).
    """

    run: RunDir | None = None
    checkpoints: CheckpointStore | None = None
    checkpoint_every: int = 100
    checkpoint_minutes: float = 0.0
    stop: StopRequest = field(default_factory=StopRequest)
    on_tick: Callable[[int, int, Metrics], None] = lambda done, total, row: None
    clock: Callable[[], float] = time.monotonic


def run_task(task: Task, watch: Watch, *, resume: bool = False) -> list[Metrics]:
    """Run all ticks from the start or, with `resume`, from the newest good checkpoint; returns the rows of metrics.

    Raises Interrupted (state saved) on a stop request, and RunError where a resume has nothing left to train or the
    numbers stay bad.
    """
    done = _resume(task, watch) if resume else 0
    guard, rows = SkipGuard(), list[Metrics]()
    saved_at, pause = watch.clock(), watch.checkpoint_minutes * 60 or math.inf
    begun = done > 0
    while done < task.total:
        try:
            row = task.tick(done, watch.stop) if begun else task.begin(watch.stop)
        except StopRequested:
            _save(task, watch, done)
            raise _interrupted(task, watch, done) from None
        done += begun
        if row:
            row = {**row, "peak_memory_mib": peak_memory_mib()}
            rows.append({"step": done, **row})
            if watch.run is not None:
                watch.run.metrics.append(done, row)
        guard.see(row, done, _keep_skipped_batches(task, watch, done))
        stopping = watch.stop.requested
        due = begun and (done % watch.checkpoint_every == 0 or watch.clock() - saved_at >= pause)
        if stopping or due or done == task.total:
            _save(task, watch, done)
            saved_at = watch.clock()
        if row:
            watch.on_tick(done, task.total, row)
        if stopping and done < task.total:
            raise _interrupted(task, watch, done)
        begun = True
    return rows


def _save(task: Task, watch: Watch, done: int) -> None:
    if watch.checkpoints is not None:
        if watch.run is not None:
            watch.run.sync()
        watch.checkpoints.save(done, task.save)


def _resume(task: Task, watch: Watch) -> int:
    restored = watch.checkpoints.newest() if watch.checkpoints is not None else None
    if restored is None or not restored.step:
        if watch.run is not None:
            watch.run.truncate_after(-1)
        return 0
    if restored.step >= task.total:
        raise RunError(
            f"this run is complete ({restored.step} of {task.total} {task.unit}), so resuming would train nothing",
            now="Use its output, or start another run with another --out.",
        )
    task.load(restored.folder)
    if watch.run is not None:
        watch.run.truncate_after(restored.step)
    return restored.step


def _interrupted(task: Task, watch: Watch, done: int) -> Interrupted:
    what, now = "nothing was kept", None
    if watch.checkpoints is not None:
        what, now = "everything up to here is saved", "Give --resume to go on from here."
    error = Interrupted(f"stopped after {done} of {task.total} {task.unit}; {what}", now=now)
    error.exit_code = watch.stop.exit_code
    return error


def _keep_skipped_batches(task: Task, watch: Watch, done: int) -> Path | None:
    """Write the micro-batches of a skipped update to `bad-batches/step-N.json` of the run."""
    batches = [{**asdict(batch), "loss": str(batch.loss)} for batch in task.skipped_batches]  # nan is no JSON
    task.skipped_batches.clear()
    if not batches or watch.run is None:
        return None
    path = watch.run.path / "bad-batches" / f"step-{done:06d}.json"
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps({"step": done, "micro_batches": batches}))
    return path


class SkipGuard:
    """A skipped update (nan or infinity in loss or gradient) is counted; several in a row stop the run."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def see(self, row: Metrics, step: int, kept: Path | None = None) -> None:
        """Look at a row of metrics; raises RunError after SKIPS_BEFORE_STOP skipped updates without a good one.

        A row may stand for several updates; where not all of them were skipped, the count begins anew.
        """
        skipped = int(row.get("skipped_updates", 0.0))
        all_of_them = skipped >= row.get("updates", 1.0)
        self._in_a_row = self._in_a_row + skipped if all_of_them else min(skipped, 1)
        if self._in_a_row >= SKIPS_BEFORE_STOP:
            raise RunError(
                f"the loss or its gradient was not finite {self._in_a_row} times in a row, last at step {step}; "
                "these updates were skipped and the weights are still good"
                + (f"; the last batch is kept in {kept}" if kept is not None else ""),
                now="Lower the learning rate or look at the data; the last good checkpoint is kept.",
            )
