"""A job: a run folder around training. Opened or resumed, watched, saved, described, reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from assent.algorithms.loop import Task, Watch, run_task
from assent.algorithms.methods import METHODS, Method
from assent.config import as_dict
from assent.errors import Interrupted, RunError
from assent.evals.arms import Arm, MetricsRow, TrainingCurves
from assent.evals.evidence import Evidence
from assent.evals.report import write_report
from assent.interrupts import StopRequest
from assent.metrics import Metrics
from assent.model.checkpoints import CheckpointStore
from assent.recipes.run.ending import ending, next_command, peak_rss_mib
from assent.recipes.run.expectation import expected
from assent.recipes.run.held_out import BEFORE_AND_AFTER
from assent.recipes.run.inputs import Files
from assent.recipes.run.job_settings import MAY_CHANGE, RunSettings
from assent.recipes.run.progress import Display, Stage
from assent.recipes.run.request import Request
from assent.recipes.run.unseen import held_out_of, remember_prompts, warning
from assent.recipes.training.prepare import Prepared
from assent.runs.folder import RunDir, check_place, read_lineage
from assent.runs.lineage import DataSource, Lineage, parent, write_model_card
from assent.runs.logs import read_rows
from assent.runs.trackers import Tracker, check_trackers, open_trackers


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training that is ready to begin: its task, what it is made from, and what is done around it.

    `begin` is called when the run is open; `save` writes the model into a folder; `measure` puts what is found on
    held-out data into the job's evidence and gives the numbers for the model card.
    """

    prepared: Prepared[Any]
    save: Callable[[Path], None]
    begin: Callable[[Job], None] = lambda job: None
    measure: Callable[[Job], Metrics] = lambda job: {}
    examples: Sequence[Any] = ()
    held_out: Sequence[Any] = ()
    sources: tuple[DataSource, ...] = ()
    parents: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Job:
    """An open run with everything a command needs; `evidence` collects what the report will show.

    `first_rows` are rows of the report's curves that were measured before the first step.
    """

    request: Request
    settings: RunSettings
    lineage: Lineage
    display: Display
    run: RunDir
    checkpoints: CheckpointStore
    stop: StopRequest
    trackers: list[Tracker]
    started: float = field(default_factory=time.monotonic)
    evidence: dict[str, Any] = field(default_factory=dict)
    first_rows: tuple[MetricsRow, ...] = ()

    @property
    def files(self) -> Files:
        """What was said of input and output."""
        return self.request.files

    @property
    def method(self) -> Method:
        """How it trains."""
        return METHODS[self.request.name]

    def train(self, task: Task) -> Metrics:
        """Train with bar, metrics, trackers, checkpoints and stop requests; returns the last value of every metric.

        A run that was cut between its last step and its last file is only put together again.
        """
        self.run.set_status("running", total=task.total, unit=task.unit)
        restored = self.checkpoints.newest() if self.files.resume else None
        if restored is not None and restored.step >= task.total:
            task.load(restored.folder)
            self.run.truncate_after(restored.step)
            self.display.say("all steps were done before; what was left to write is written now")
        else:
            done = restored.step if restored is not None else 0
            if told := expected(task, read_rows(self.files.out / "metrics.jsonl"), done=done):
                self.display.say(told)
            with self.display.stage(self.method.name, task.total, unit=task.unit, done=done) as stage:
                watch = Watch(
                    run=self.run,
                    checkpoints=self.checkpoints,
                    checkpoint_every=self.settings.checkpoint_every,
                    checkpoint_minutes=self.settings.checkpoint_minutes,
                    stop=self.stop,
                    on_tick=partial(self._see, stage),
                )
                run_task(task, watch, resume=self.files.resume)
        self.run.set_status("running", step=task.total)
        last: Metrics = {}
        for row in read_rows(self.files.out / "metrics.jsonl"):
            last |= {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        return last

    def _see(self, stage: Stage, done: int, total: int, row: Metrics) -> None:
        stage.on_tick(done, total, row)
        self.run.set_status("running", step=done)
        for tracker in self.trackers:
            tracker.log(done, row)

    @property
    def model_folder(self) -> Path:
        """Where the trained model goes."""
        return self.files.out / "model"

    def note_prompts(self, trained: Sequence[Any], held_out: Sequence[Any]) -> None:
        """Keep what the model is trained on, as hashes, and say where held-out examples are among it."""
        hashes = remember_prompts(self.files.out, trained)
        if held_out:
            self.evidence["held_out"] = held = held_out_of(held_out, hashes)
            if told := warning(held):
                self.display.say(told)

    def finish(self, metrics: Metrics) -> Path:
        """Model card, report, status, and the last lines on the terminal; returns the path of the report."""
        method = self.method
        tags = (*method.tags, self.request.name)
        write_model_card(self.model_folder, self.lineage, what=method.card, tags=tags, metrics=metrics)
        rows = [
            {name: value for name, value in row.items() if value is None or isinstance(value, int | float)}
            for row in read_rows(self.files.out / "metrics.jsonl")
        ]
        document = self.lineage.to_dict()
        evidence = Evidence(
            title=method.name,
            arms=BEFORE_AND_AFTER | {self.request.name: Arm(name=method.name, colour="blue")},
            command=self.files.command,
            seeds=(self.settings.seed,),
            wall_s=time.monotonic() - self.started,
            peak_rss_mib=peak_rss_mib(),
            training={self.request.name: training_curves(method, (*self.first_rows, *rows))},
            settings=document["settings"],
            lineage={name: value for name, value in document.items() if name != "settings"},
            **self.evidence,
        )
        path = write_report(evidence, self.files.out)
        self.run.set_status("finished")
        self.display.say(f"{ending(evidence)}; model: {self.model_folder}")
        self.display.say(f"report: {path}")
        self.display.say(f"next: {next_command(self.request, self.settings)}")
        return path


def training_curves(method: Method, rows: Iterable[MetricsRow]) -> TrainingCurves:
    """Rows of metrics, with what the report draws of them."""
    return TrainingCurves(
        method=method.name, unit=method.unit, curves=method.curves, folded=method.folded, rows=tuple(rows)
    )


def check_output(files: Files, settings: RunSettings) -> None:
    """Refuse an output folder or tracker that cannot be used, before any time is spent on data and models.

    A run that is resumed computes with as many threads as it began with, unless the settings say otherwise.
    """
    check_place(files.out, resume=files.resume, overwrite=files.overwrite)
    if files.resume and not settings.machine.threads:
        torch.set_num_threads(read_lineage(files.out).get("threads") or torch.get_num_threads())
    check_trackers(settings.trackers)


@contextmanager
def open_job(request: Request, settings: RunSettings, display: Display, training: Training) -> Iterator[Job]:
    """Create the run folder, or open it for a resume, and close it well whatever happens inside.

    A new run that fails before its first row leaves nothing behind, unless it was stopped or is a RunError.
    """
    device, files, document = settings.machine.pick(), request.files, as_dict(settings)
    lineage = Lineage(
        kind=request.name,
        settings=document,
        seed=settings.seed,
        data=training.sources,
        parents=tuple(parent(path, role=role) for role, path in training.parents.items()),
        device=device.type,
        precision=settings.machine.precision,
        threads=torch.get_num_threads(),
    )
    known = lineage.to_dict()
    if files.resume:
        run = RunDir.open_for_resume(files.out, settings=document, lineage=known, ignore=MAY_CHANGE)
    else:
        run = RunDir.create(files.out, kind=request.name, settings=document, lineage=known, overwrite=files.overwrite)
    for told in run.warnings:
        display.say(f"warning: {told}")
    try:
        with run, StopRequest() as stop, ExitStack() as at_the_end:
            checkpoints = CheckpointStore(run.checkpoints, keep=settings.keep_checkpoints)
            trackers = open_trackers(
                settings.trackers, files.out, project=settings.project, name=files.out.name, settings=document,
                resumed_at=max(checkpoints.steps(), default=0) if files.resume else None,
            )  # fmt: skip
            for tracker in trackers:
                at_the_end.callback(tracker.close)
            yield Job(
                request=request,
                settings=settings,
                lineage=lineage,
                display=display,
                run=run,
                checkpoints=checkpoints,
                stop=stop,
                trackers=trackers,
            )
    except (RunError, Interrupted, KeyboardInterrupt):
        raise
    except BaseException:  # what was given cannot be used after all, and only the first step could show it
        if not files.resume:
            run.discard()
        raise
