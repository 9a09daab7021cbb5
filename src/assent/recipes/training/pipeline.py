"""`assent run SETTINGS.toml`: stages in order, each a command; a stage names an earlier one with "@name".

out = "runs/mine"
[[stage]]
kind = "sft"
model = "my-model"
data = "demonstrations.jsonl"
settings = { learning_rate = 1e-4 }
[[stage]]
kind = "reward"
model = "@sft"
data = "preferences.jsonl"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from assent.algorithms.methods import METHODS
from assent.config import Settings, merge, parse
from assent.errors import ConfigError, DataError
from assent.evals.report import write_report
from assent.recipes.evaluation import run_eval
from assent.recipes.reporting import joined, read_evidence
from assent.recipes.run.inputs import Files
from assent.recipes.run.job_settings import EvalJob, job_settings
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.training.commands import run_method
from assent.runs.folder import check_place, read_status

EVAL = "eval"
_PATHS = ("model", "reward", "against")
_WORLD = "world"


class Stage(Settings):
    """One stage; `name` is how later stages call it (default: its kind)."""

    kind: str
    name: str = ""
    model: str = ""
    reward: list[str] | str = ""
    environment: str = ""
    against: str = ""
    data: list[str] | str = Field(default_factory=list)
    eval_data: list[str] | str = Field(default_factory=list)
    format: str = ""
    on_bad_row: Literal["stop", "skip"] = "stop"
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in (*METHODS, EVAL):
            raise ValueError(f"expected one of {', '.join((*METHODS, EVAL))}, got {json.dumps(kind)}")
        return kind

    @property
    def called(self) -> str:
        """The stage's name."""
        return self.name or self.kind

    def paths(self, name: str) -> list[str]:
        """A flag that may be one text or several, as a list."""
        value: list[str] | str = getattr(self, name)
        return value if isinstance(value, list) else [value] if value else []


class Pipeline(Settings):
    """Stages in order; `common` settings go to every stage that knows them first (its own `settings` win)."""

    out: str
    common: dict[str, Any] = Field(default_factory=dict)
    stage: list[Stage] = Field(min_length=1)


def run_pipeline(request: Request, display: Display) -> Path:
    """Run the stages; with --resume, finished stages are left as they are and an unfinished one is continued."""
    file = Path(request.text("pipeline") or "")
    pipeline = parse(Pipeline, file=file)
    _check(pipeline, file)
    if not request.files.resume:
        for stage in pipeline.stage:
            check_place(Path(pipeline.out) / stage.called, resume=False, overwrite=request.files.overwrite)
    folders: dict[str, Path] = {}
    for stage in pipeline.stage:
        name = stage.called
        folders[name] = Path(pipeline.out) / name
        begun = request.files.resume and (folders[name] / "config.json").is_file()
        if begun and read_status(folders[name]).state == "finished":
            display.say(f"[{name}] finished before")
            continue
        display.say(f"[{name}]")
        run = run_eval if stage.kind == EVAL else run_method
        run(_request(pipeline, stage, folders, resume=begun, overwrite=request.files.overwrite), display)
    parts = [read_evidence(folder) for folder in folders.values()]
    path = write_report(joined(parts, list(folders.values())), Path(pipeline.out))
    display.say(f"report of all stages: {path}")
    return path


def _settings(kind: str) -> type[Settings]:
    return EvalJob if kind == EVAL else job_settings(kind)


def _base(pipeline: Pipeline, stage: Stage) -> dict[str, Any]:
    """A stage's settings: of the common ones those that it knows, then its own."""
    known = _settings(stage.kind).model_fields
    return merge({name: value for name, value in pipeline.common.items() if name in known}, stage.settings)


def _check(pipeline: Pipeline, file: Path) -> None:
    """Everything that can be known beforehand is known before the first stage starts: names, settings, files."""
    known = {name for kind in (*METHODS, EVAL) for name in _settings(kind).model_fields}
    if unknown := sorted(set(pipeline.common) - known):
        raise ConfigError(f'no stage knows the common setting "{unknown[0]}"', where=f"{file}: common")
    seen: set[str] = set()
    for number, stage in enumerate(pipeline.stage, 1):
        where = f"{file}: stage {number} ({stage.kind})"
        try:
            _check_stage(pipeline, stage, seen)
        except (ConfigError, DataError) as error:
            inner = f": {error.where}" if error.where and error.where != "settings" else ""
            raise type(error)(error.what, where=where + inner, now=error.now) from None
        seen.add(stage.called)


def _check_stage(pipeline: Pipeline, stage: Stage, seen: set[str]) -> None:
    if stage.called in seen:
        raise ConfigError(f'two stages are called "{stage.called}"', now="Give one of them a name.")
    if "/" in stage.called or stage.called.startswith("."):
        raise ConfigError(f'"{stage.called}" cannot be the name of a folder', now="Give the stage another name.")
    for flag, value in [(name, value) for name in _PATHS for value in stage.paths(name)]:
        if value.startswith("@") and value[1:] not in seen:
            earlier = ", ".join(f"@{name}" for name in seen) or "none"
            raise ConfigError(f'{flag} = "{value}" names no earlier stage', now=f"Earlier stages: {earlier}.")
    method = METHODS.get(stage.kind)
    needed = {
        "model": method is None or method.makes != "model", "data": not stage.environment,
        "reward": method is not None and method.needs_reward and not stage.environment,
    }  # fmt: skip
    for flag, wanted in needed.items():
        if wanted and not getattr(stage, flag):
            raise ConfigError(f"{flag} is missing", now=f'Write {flag} = "..." in this stage.')
    for path in (*stage.paths("data"), *stage.paths("eval_data")):
        if path != _WORLD and not Path(path).exists():
            raise DataError("there is no such file", where=path, now="Check the path; it is relative to where you are.")
    parse(_settings(stage.kind), base=_base(pipeline, stage))


def _request(
    pipeline: Pipeline, stage: Stage, folders: Mapping[str, Path], *, resume: bool, overwrite: bool
) -> Request:
    def found(flag: str) -> tuple[str, ...]:
        return tuple(str(folders[one[1:]]) if one.startswith("@") else one for one in stage.paths(flag))

    return Request(
        name=stage.kind,
        files=Files(
            model=next(iter(found("model")), ""),
            out=folders[stage.called],
            data=tuple(stage.paths("data")),
            eval_data=tuple(stage.paths("eval_data")),
            format=stage.format or None,
            on_bad_row=stage.on_bad_row,
            resume=resume,
            overwrite=overwrite,
        ),
        rewards=found("reward"),
        environment=stage.environment or None,
        against=next(iter(found("against")), None),
        base=_base(pipeline, stage),
    )
