"""The one training loop: ticks, rows of metrics, checkpoints, stop requests, and the guard against bad numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from assent.algorithms.epochs import SkippedBatch
from assent.durable import write_atomic, writing
from assent.errors import Interrupted, RunError
from assent.interrupts import StopRequest
from assent.metrics import Metrics
from assent.model.checkpoints import CheckpointStore
from assent.model.state import pack, unpack
from assent.runs.folder import RunDir

SKIPS_BEFORE_STOP = 3


class Task(Protocol):
    """What an algorithm gives the loop. A tick is the smallest piece of work after which a checkpoint may lie.

    `state` holds everything that the ticks change; tick i after `restore` does what it would have done without a cut.
    People count in `unit`, of which each is `ticks_per_unit` ticks: an iteration of PPO is a rollout and its updates.
    """

    total: int
    unit: str
    ticks_per_unit: int
    skipped_batches: list[
        SkippedBatch
    ]  # of updates without effect; the loop keeps them for inspection and clears the list

    def tick(self, index: int) -> Metrics | None:
        """Do tick `index`; returns a row of metrics, or None where there is nothing to report yet."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who sees the run: its folder and checkpoints (None: nothing is kept), the stop flag, and a progress display."""

    run: RunDir | None = None
    checkpoints: CheckpointStore | None = None
    checkpoint_every: int = 100
    stop: StopRequest | None = None
    on_tick: Callable[[int, int, Metrics | None], None] = lambda done, total, row: None


def run_task(task: Task, watch: Watch, *, resume: bool = False) -> list[Metrics]:
    """Run all ticks from the start or, with `resume`, from the newest good checkpoint; returns the rows of metrics.

    Raises Interrupted (state saved) on a stop request, and RunError where a resume has nothing left to train or the
    numbers stay bad.
    """
    done = _resume(task, watch) if resume else 0
    guard = SkipGuard()
    rows: list[Metrics] = []
    while done < task.total:
        row = task.tick(done)
        done += 1
        if row is not None:
            rows.append({"step": done, **row})
            if watch.run is not None:
                watch.run.metrics.append(done, row)
        kept = _keep_suspects(task, watch, done)
        if row is not None:
            guard.see(row, done, kept)
        stopping = watch.stop is not None and watch.stop.requested
        if watch.checkpoints is not None and (stopping or done % watch.checkpoint_every == 0 or done == task.total):
            if watch.run is not None:
                watch.run.sync()
            watch.checkpoints.save(done, pack({"task": task.state()}))
        watch.on_tick(done, task.total, row)
        if stopping and done < task.total:
            raise _interrupted(watch, counted(task, done))
    return rows


def _resume(task: Task, watch: Watch) -> int:
    restored = watch.checkpoints.newest() if watch.checkpoints is not None else None
    if restored is None:
        if watch.run is not None:
            watch.run.truncate_after(0)
        return 0
    if restored.step >= task.total:
        raise RunError(
            f"this run is complete ({counted(task, restored.step)}), so resuming would train nothing",
            now="Use its output, or start another run with another --out.",
        )
    task.restore(unpack(restored.state)["task"])
    if watch.run is not None:
        watch.run.truncate_after(restored.step)
    return restored.step


def counted(task: Task, done: int) -> str:
    """So many ticks as people count them: "3 of 100 iterations"."""
    return f"{done // task.ticks_per_unit} of {task.total // task.ticks_per_unit} {task.unit}"


def _interrupted(watch: Watch, done: str) -> Interrupted:
    kept = watch.checkpoints is not None
    error = Interrupted(
        f"stopped after {done}" + ("; everything up to here is saved" if kept else "; nothing was kept"),
        now="Give --resume to go on from here." if kept else None,
    )
    if watch.stop is not None:
        error.exit_code = watch.stop.exit_code
    return error


def _keep_suspects(task: Task, watch: Watch, done: int) -> Path | None:
    """Write the micro-batches of a skipped update to `bad-batches/step-N.json` of the run."""
    skipped_batches = [asdict(suspect) for suspect in task.skipped_batches]
    task.skipped_batches.clear()
    if not skipped_batches or watch.run is None:
        return None
    for suspect in skipped_batches:
        suspect["loss"] = str(suspect["loss"])  # nan and infinity are no JSON
    path = watch.run.path / "bad-batches" / f"step-{done:06d}.json"
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps({"step": done, "micro_batches": skipped_batches}))
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
