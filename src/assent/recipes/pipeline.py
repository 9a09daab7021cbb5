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

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assent.config import Settings, parse
from assent.errors import ConfigError
from assent.evals.report import write_report
from assent.recipes.progress import Display
from assent.recipes.reporting import joined, read_evidence
from assent.recipes.request import Request
from assent.rundir import read_status

ENTRIES = {
    "pretrain": "assent.recipes.pretraining:run_pretrain",
    "sft": "assent.recipes.commands:run_sft",
    "reward": "assent.recipes.commands:run_reward",
    "dpo": "assent.recipes.commands:run_dpo",
    "ppo": "assent.recipes.commands:run_ppo",
    "eval": "assent.recipes.evaluation:run_eval",
}
_PATHS = ("model", "reward", "against")


class Stage(Settings):
    """One stage; `name` is how later stages call it (default: its kind)."""

    kind: Literal["pretrain", "sft", "reward", "dpo", "ppo", "eval"]
    name: str = ""
    model: str = ""
    reward: str = ""
    against: str = ""
    data: list[str] | str = Field(default_factory=list)
    eval_data: list[str] | str = Field(default_factory=list)
    format: str = ""
    on_bad_row: Literal["stop", "skip"] = "stop"
    settings: dict[str, Any] = Field(default_factory=dict)


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
    folders: dict[str, Path] = {}
    for stage in pipeline.stage:
        name = stage.name or stage.kind
        folders[name] = Path(pipeline.out) / name
        state = _state(folders[name]) if request.files.resume else "absent"
        if state == "finished":
            display.say(f"[{name}] finished before")
            continue
        display.say(f"[{name}]")
        namespace = _namespace(stage, folders, resume=state == "begun", overwrite=request.files.overwrite)
        module, function = ENTRIES[stage.kind].split(":")
        base = {**pipeline.common, **stage.settings}
        getattr(importlib.import_module(module), function)(Request(namespace, base=base), display)
    parts = [read_evidence(folder) for folder in folders.values()]
    path = write_report(joined(parts, list(folders.values())), Path(pipeline.out))
    display.say(f"report of all stages: {path}")
    return path


def _check(pipeline: Pipeline, file: Path) -> None:
    """Every "@name" must name an earlier stage, and names must differ, before anything starts."""
    seen: set[str] = set()
    for number, stage in enumerate(pipeline.stage, 1):
        where = f"{file}: stage {number}"
        for flag in _PATHS:
            value = getattr(stage, flag)
            if value.startswith("@") and value[1:] not in seen:
                raise ConfigError(f'{flag} = "{value}" names no earlier stage', where=where)
        name = stage.name or stage.kind
        if name in seen:
            raise ConfigError(f'two stages are called "{name}"', where=where, now="Give one of them a name.")
        seen.add(name)


def _state(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        return "absent"
    return "finished" if read_status(folder).state == "finished" else "begun"


def _namespace(stage: Stage, folders: Mapping[str, Path], *, resume: bool, overwrite: bool) -> argparse.Namespace:
    name = stage.name or stage.kind
    flags: dict[str, Any] = {
        flag: (str(folders[value[1:]]) if value.startswith("@") else value) or None
        for flag, value in ((flag, getattr(stage, flag)) for flag in _PATHS)
    }
    lists = {key: [value] if isinstance(value, str) else value for key, value in
             (("data", stage.data), ("eval_data", stage.eval_data))}  # fmt: skip
    return argparse.Namespace(
        **flags,
        **lists,
        out=str(folders[name]),
        format=stage.format or None,
        on_bad_row=stage.on_bad_row,
        resume=resume,
        overwrite=overwrite,
    )
