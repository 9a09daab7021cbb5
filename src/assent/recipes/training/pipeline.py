"""`assent run SETTINGS.toml`: stages in order, each a command; a stage names an earlier one, or a file of it, with "@".

out = "runs/mine"
[[stage]]
kind = "sft"
model = "my-model"
data = "demonstrations.jsonl"
settings = { learning_rate = 1e-4 }
[[stage]]
kind = "constitution judge"
name = "labels"
model = "@sft"
data = "pairs.jsonl"
[[stage]]
kind = "reward"
model = "@sft"
data = ["preferences.jsonl", "@labels/labels.jsonl"]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from assent.algorithms.methods import METHODS
from assent.config import Settings, merge, parse
from assent.errors import ConfigError, DataError
from assent.evals.report import write_report
from assent.recipes.constitution.generate import GenerateJob, run_constitution_generate
from assent.recipes.constitution.judge import JudgeJob, run_constitution_judge
from assent.recipes.constitution.red_team import RedTeamJob, run_red_team
from assent.recipes.evaluation import run_eval
from assent.recipes.reporting import REPORT, joined, read_evidence
from assent.recipes.run.inputs import Files
from assent.recipes.run.job_settings import EvalJob, job_settings
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.training.commands import run_method
from assent.runs.folder import check_place, read_status

EVAL = "eval"
_MODELS = ("model", "reward", "cost", "against", "attacker")  # fields that name models, and may name earlier stages
_FILES = ("data", "eval_data", "ptx_data", "helpful")  # fields that name files, and may name files of earlier stages
_WORLD = "world"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of stage: its settings, what runs it, and the fields that it cannot do without."""

    settings: type[Settings]
    run: Callable[[Request, Display], object]
    needs: tuple[str, ...]


def _kind(name: str) -> Kind:
    if found := _OTHERS.get(name):
        return found
    method = METHODS[name]
    model = ("model",) if method.makes != "model" else ()
    reward = ("reward",) if method.needs_reward else ()
    cost = ("cost",) if method.needs_cost else ()
    return Kind(settings=job_settings(name), run=run_method, needs=(*model, *reward, *cost, "data"))


_OTHERS = {
    EVAL: Kind(settings=EvalJob, run=run_eval, needs=("model", "data")),
    "constitution generate": Kind(settings=GenerateJob, run=run_constitution_generate, needs=("model", "data")),
    "constitution judge": Kind(settings=JudgeJob, run=run_constitution_judge, needs=("model", "data")),
    "red-team": Kind(settings=RedTeamJob, run=run_red_team, needs=("model", "data", "reward")),
}
KINDS = (*METHODS, *_OTHERS)


class Stage(Settings):
    """One stage; `name` is how later stages call it (default: its kind). The fields are those of its command's flags;
    `data` holds the prompts of the commands that take --prompts."""

    kind: str
    name: str = ""
    model: str = ""
    reward: list[str] | str = ""
    cost: str = ""
    ptx_data: list[str] | str = Field(default_factory=list)
    environment: str = ""
    against: str = ""
    attacker: str = ""
    constitution: str = ""
    data: list[str] | str = Field(default_factory=list)
    eval_data: list[str] | str = Field(default_factory=list)
    helpful: list[str] | str = Field(default_factory=list)
    format: str = ""
    on_bad_row: Literal["stop", "skip"] = "stop"
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"expected one of {', '.join(KINDS)}, got {json.dumps(kind)}")
        return kind

    @property
    def called(self) -> str:
        """The stage's name."""
        return self.name or self.kind.replace(" ", "-")

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
        _kind(stage.kind).run(
            _request(pipeline, stage, folders, resume=begun, overwrite=request.files.overwrite), display
        )
    measured = [folder for folder in folders.values() if (folder / REPORT).is_file()]
    if not measured:
        return Path(pipeline.out)
    path = write_report(joined([read_evidence(folder) for folder in measured], measured), Path(pipeline.out))
    display.say(f"report of all stages: {path}")
    return path


def _base(pipeline: Pipeline, stage: Stage) -> dict[str, Any]:
    """A stage's settings: of the common ones those that it knows, then its own."""
    known = _kind(stage.kind).settings.model_fields
    return merge({name: value for name, value in pipeline.common.items() if name in known}, stage.settings)


def _check(pipeline: Pipeline, file: Path) -> None:
    """Everything that can be known beforehand is known before the first stage starts: names, settings, files."""
    known = {name for kind in KINDS for name in _kind(kind).settings.model_fields}
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
    for flag, value in [(name, value) for name in (*_MODELS, *_FILES) for value in stage.paths(name)]:
        earlier, _, file = value[1:].partition("/")
        if value.startswith("@") and earlier not in seen:
            known = ", ".join(f"@{name}" for name in seen) or "none"
            raise ConfigError(f'{flag} = "{value}" names no earlier stage', now=f"Earlier stages: {known}.")
        if value.startswith("@") and bool(file) == (flag in _MODELS):
            form = "@NAME" if flag in _MODELS else "@NAME/FILE"
            raise ConfigError(f'{flag} = "{value}" is of the wrong form', now=f"Write {form}.")
    brought = ("data", "reward") if stage.environment else ()  # an environment has its own
    for flag in _kind(stage.kind).needs:
        if flag not in brought and not getattr(stage, flag):
            raise ConfigError(f"{flag} is missing", now=f'Write {flag} = "..." in this stage.')
    for path in (path for name in _FILES for path in stage.paths(name)):
        if path != _WORLD and not path.startswith("@") and not Path(path).exists():
            raise DataError("there is no such file", where=path, now="Check the path; it is relative to where you are.")
    parse(_kind(stage.kind).settings, base=_base(pipeline, stage))


def _request(
    pipeline: Pipeline, stage: Stage, folders: Mapping[str, Path], *, resume: bool, overwrite: bool
) -> Request:
    def found(flag: str) -> tuple[str, ...]:
        return tuple(_path(one, folders) for one in stage.paths(flag))

    own: dict[str, Any] = {name: found(name) for name in ("helpful", "ptx_data")}
    own |= {name: next(iter(found(name)), None) for name in ("attacker", "cost")}
    return Request(
        name=stage.kind,
        files=Files(
            model=next(iter(found("model")), ""),
            out=folders[stage.called],
            data=found("data"),
            eval_data=found("eval_data"),
            format=stage.format or None,
            on_bad_row=stage.on_bad_row,
            resume=resume,
            overwrite=overwrite,
        ),
        rewards=found("reward"),
        environment=stage.environment or None,
        against=next(iter(found("against")), None),
        base=_base(pipeline, stage),
        own={**own, "constitution": stage.constitution or None},
    )


def _path(value: str, folders: Mapping[str, Path]) -> str:
    if not value.startswith("@"):
        return value
    name, _, file = value[1:].partition("/")
    return str(folders[name] / file)
