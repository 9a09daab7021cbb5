"""What these commands share: models (in this process or behind an address), their recorded calls, the run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from assent.config import as_dict
from assent.constitution.call_record import RecordedModel
from assent.constitution.chat_model import ChatModel
from assent.constitution.endpoint import EndpointOptions
from assent.constitution.principles import Tag
from assent.durable import sha256_file, write_atomic
from assent.errors import Interrupted
from assent.interrupts import StopRequest, StopRequested
from assent.ports.sampling import Progress
from assent.recipes.run.chat_models import chat_model
from assent.recipes.run.job_settings import ENDPOINT_MAY_CHANGE, JobSettings, SamplingSettings
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.progress import Display, Stage
from assent.recipes.run.request import Request
from assent.runs.folder import RunDir
from assent.runs.lineage import DataSource, Lineage, Parent

MODEL = "model"
Named = tuple[str, EndpointOptions]  # a folder, hub name or address, and how an address is asked
_SECTIONS = ("endpoint", "attacker_endpoint", "judge.endpoint")
_MAY_CHANGE = (
    "machine.threads", *(f"{section}.{name}" for section in _SECTIONS for name in ENDPOINT_MAY_CHANGE)
)  # fmt: skip


class AskingJob(JobSettings, SamplingSettings):
    """What every command shares that asks models."""

    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.7, ge=0)
    endpoint: EndpointOptions = EndpointOptions()


class ConstitutionJob(AskingJob):
    """What the commands with principles share. `tags` takes only the principles that have one of them; `few_shots` is
    how many of the constitution's examples the model is shown."""

    tags: tuple[Tag, ...] = ()
    few_shots: int = Field(default=1, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """An open run: its folder, and models by their roles, whose answers are recorded there."""

    run: RunDir
    models: Mapping[str, RecordedModel]
    names: Mapping[str, str]
    stop: StopRequest

    @property
    def model(self) -> RecordedModel:
        """The model of --model."""
        return self.models[MODEL]

    @property
    def model_name(self) -> str:
        """What it is called."""
        return self.names[MODEL]

    def progress(self, stage: Stage) -> Progress:
        """Count calls on the stage, and stop where somebody asked to."""

        def counted(count: int) -> None:
            self.stop.check()
            stage.advance(count)

        return counted


@contextmanager
def asking(
    request: Request, settings: AskingJob, display: Display, sources: tuple[DataSource, ...], *,
    may_change: tuple[str, ...] = (), models: Mapping[str, Named] | None = None, parents: tuple[Parent, ...] = (),
) -> Iterator[Asking]:  # fmt: skip
    """Open the models and the run folder, new or to go on with, and close them well; says what was asked at the end.

    `models` are further ones by their roles; `parents` are those that answer no calls. Raises Interrupted on a stop
    request.
    """
    files, given = request.files, {MODEL: (request.files.model, settings.endpoint), **(models or {})}
    with ExitStack() as opened:
        found = _opened(opened, given, settings.machine)
        lineage = Lineage(
            kind=request.name, settings=as_dict(settings), seed=settings.seed, data=sources,
            parents=(*(origin for _, origin in found.values()), *parents), precision=settings.machine.precision,
        )  # fmt: skip
        document: dict[str, Any] = {"settings": lineage.settings, "lineage": lineage.to_dict()}
        if files.resume:
            run = RunDir.open_for_resume(files.out, **document, ignore=(*_MAY_CHANGE, *may_change))
        else:
            run = RunDir.create(files.out, **document, kind=request.name, overwrite=files.overwrite)
        for told in run.warnings:
            display.say(f"warning: {told}")
        opened.enter_context(run)
        stop = opened.enter_context(StopRequest())
        recorded = {
            role: opened.enter_context(RecordedModel(model, files.out / _calls_file(role)))
            for role, (model, _) in found.items()
        }
        try:
            yield Asking(
                run=run, models=recorded, names={role: one.name for role, (_, one) in found.items()}, stop=stop
            )
        except StopRequested:
            error = Interrupted("stopped; every answer so far is kept", now="Give --resume to go on from here.")
            error.exit_code = stop.exit_code
            raise error from None
        for role, model in recorded.items():
            usage, who = model.usage, f"{role}: " if len(recorded) > 1 else ""
            display.say(
                f"{who}{usage.calls} calls, {usage.known} answers known before; {usage.prompt_tokens:,} tokens read "
                f"and {usage.completion_tokens:,} written in all"
            )


def constitution_source(path: Path) -> DataSource:
    """A constitution counts as data: a run does not go on with another one."""
    return DataSource(role="constitution", name=path.name, sha256=sha256_file(path))


def _calls_file(role: str) -> str:
    return "calls.jsonl" if role == MODEL else f"{role}-calls.jsonl"


def _opened(
    opened: ExitStack, given: Mapping[str, Named], machine: MachineOptions
) -> dict[str, tuple[ChatModel, Parent]]:
    """Each model by its role; roles of the same model share it."""
    models = {named: opened.enter_context(chat_model(*named, machine)) for named in dict.fromkeys(given.values())}
    return {role: (models[named][0], replace(models[named][1], role=role)) for role, named in given.items()}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, all or nothing."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
