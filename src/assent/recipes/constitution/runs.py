"""What both commands share: the model (in this process or behind an address), its recorded calls, the run folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from assent.backends.local.engine import LocalEngine
from assent.config import as_dict
from assent.constitution.call_record import RecordedModel
from assent.constitution.chat_model import ChatModel, EngineModel
from assent.constitution.endpoint import Endpoint, EndpointOptions
from assent.constitution.principles import Tag
from assent.durable import sha256_file, write_atomic
from assent.errors import ConfigError, Interrupted
from assent.interrupts import StopRequest, StopRequested
from assent.ports.sampling import Progress
from assent.recipes.constitution.show import constitution_path
from assent.recipes.run.inputs import model_folder
from assent.recipes.run.job_settings import JobSettings, SamplingSettings
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model
from assent.recipes.run.progress import Display, Stage
from assent.recipes.run.request import Request
from assent.runs.folder import RunDir
from assent.runs.lineage import DataSource, Lineage, Parent, parent

CALLS = "calls.jsonl"
_MAY_CHANGE = ("endpoint.concurrency", "endpoint.requests_per_minute", "endpoint.timeout_s", "endpoint.retries",
               "endpoint.key_env", "machine.threads")  # fmt: skip


class ConstitutionJob(JobSettings, SamplingSettings):
    """What both commands share. `tags` takes only the principles that have one of them; `few_shots` is how many of
    the constitution's examples the model is shown."""

    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.7, ge=0)
    tags: tuple[Tag, ...] = ()
    few_shots: int = Field(default=1, ge=0)
    endpoint: EndpointOptions = EndpointOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """An open run: its folder and the model, whose answers are recorded there."""

    run: RunDir
    model: RecordedModel
    model_name: str
    stop: StopRequest

    def progress(self, stage: Stage) -> Progress:
        """Count calls on the stage, and stop where somebody asked to."""

        def counted(count: int) -> None:
            self.stop.check()
            stage.advance(count)

        return counted


@contextmanager
def asking(
    request: Request, settings: ConstitutionJob, display: Display, sources: tuple[DataSource, ...], *,
    may_change: tuple[str, ...] = (),
) -> Iterator[Asking]:  # fmt: skip
    """Open the model and the run folder, new or to go on with, and close them well; says what was asked at the end.

    The constitution counts as data: a run does not go on with another one. Raises Interrupted on a stop request.
    """
    files, constitution = request.files, constitution_path(request)
    principles = DataSource(role="constitution", name=constitution.name, sha256=sha256_file(constitution))
    with chat_model(files.model, settings.endpoint, settings.machine) as (model, origin):
        lineage = Lineage(
            kind=request.name, settings=as_dict(settings), seed=settings.seed, data=(principles, *sources),
            parents=(origin,), precision=settings.machine.precision,
        )  # fmt: skip
        document: dict[str, Any] = {"settings": lineage.settings, "lineage": lineage.to_dict()}
        if files.resume:
            run = RunDir.open_for_resume(files.out, **document, ignore=(*_MAY_CHANGE, *may_change))
        else:
            run = RunDir.create(files.out, **document, kind=request.name, overwrite=files.overwrite)
        for told in run.warnings:
            display.say(f"warning: {told}")
        with run, StopRequest() as stop, RecordedModel(model, files.out / CALLS) as recorded:
            try:
                yield Asking(run=run, model=recorded, model_name=origin.name, stop=stop)
            except StopRequested:
                error = Interrupted("stopped; every answer so far is kept", now="Give --resume to go on from here.")
                error.exit_code = stop.exit_code
                raise error from None
            usage = recorded.usage
            display.say(
                f"{usage.calls} calls, {usage.known} answers known before; {usage.prompt_tokens:,} tokens read and "
                f"{usage.completion_tokens:,} written in all"
            )


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, all or nothing."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@contextmanager
def chat_model(given: str, options: EndpointOptions, machine: MachineOptions) -> Iterator[tuple[ChatModel, Parent]]:
    """A local model or the address of one, to be asked; closed at the end."""
    if not given.startswith(("http://", "https://")):
        loaded = load_language_model(model_folder(given), machine=machine)
        yield EngineModel(LocalEngine(loaded.role, loaded.template)), parent(loaded.path, role="model")
        return
    endpoint = Endpoint(given, options, key=_key(options.key_env))
    try:
        where = hashlib.sha256(f"{endpoint.model} at {given}".encode()).hexdigest()
        yield endpoint, Parent(role="model", name=endpoint.model, sha256=where)
    finally:
        endpoint.close()


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        now = "Set it to the key of the server."
        raise ConfigError("the environment variable is not set", where=f"endpoint.key_env {variable}", now=now)
    return key
