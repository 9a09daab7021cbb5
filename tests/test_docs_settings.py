"""The page of settings names every setting of every command with its default, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from assent.algorithms.methods import METHODS
from assent.algorithms.on_policy.settings import AdvantageSettings
from assent.recipes.annotation.collect import CollectJob
from assent.recipes.annotation.rounds import RoundJob
from assent.recipes.constitution.generate import GenerateJob
from assent.recipes.constitution.judge import JudgeJob
from assent.recipes.constitution.red_team import RedTeamJob
from assent.recipes.demo.world_files import WorldFiles
from assent.recipes.game.command import GameSettings
from assent.recipes.inspecting import InspectJob
from assent.recipes.run.job_settings import EvalJob, SampleJob, SuiteJob, job_settings

PAGE = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
SHARED = ("Every job", "How files are read", "Every training run", "Training over epochs", "Adapters")
JOB, READING, RUN, EPOCHS, ADAPTERS = SHARED
ON_POLICY, ADVANTAGES, ASKING, JUDGES = "On-policy training", "Advantages", "Asking models", "Judges"
SHARED_BY: dict[str, tuple[str, ...]] = {  # by what a method reads
    "texts": (JOB, READING, RUN),
    "demonstrations": SHARED,
    "preferences": SHARED,
    "comparisons": SHARED,
    "rankings": SHARED,
    "labels": SHARED,
    "dialogues": SHARED,
    "prompts": (JOB, READING, RUN, ADAPTERS, ON_POLICY, JUDGES),
}
WITHOUT_SECTION = {"sft"}  # it has the shared settings alone
SECTIONS: dict[type[BaseModel], tuple[str, ...]] = {
    **{
        job_settings(name): (
            *SHARED_BY[method.reads],
            *([ADVANTAGES] if issubclass(job_settings(name), AdvantageSettings) else []),
            *({name} - WITHOUT_SECTION),
        )
        for name, method in METHODS.items()
    },
    InspectJob: (READING, "inspect"),
    SampleJob: (JOB, READING, JUDGES, "sample, chat"),
    EvalJob: (JOB, READING, JUDGES, "eval"),
    SuiteJob: (JOB, READING, "eval with suites"),
    GenerateJob: (JOB, READING, ASKING, "constitution generate"),
    JudgeJob: (JOB, READING, ASKING, "constitution judge"),
    RedTeamJob: (JOB, READING, ASKING, JUDGES, "red-team"),
    WorldFiles: ("world",),
    GameSettings: ("tictactoe",),
    CollectJob: (JOB, READING, "Asking", "collect"),
    RoundJob: (JOB, READING, "Asking", "round"),
}


def written(section: str) -> dict[str, str]:
    """Setting and default of every row of a section's table."""
    part = PAGE.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \| .+ \|$", part, flags=re.MULTILINE))


def real(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Setting and default of the class, nested ones by their path."""
    for name, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from real(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, shown(field.get_default(call_default_factory=True))


def shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return (
        json.dumps(list(value))
        if isinstance(value, tuple)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


@pytest.mark.parametrize("cls", SECTIONS)
def test_the_page_and_the_settings_are_the_same(cls: type[BaseModel]) -> None:
    page = {name: value for section in SECTIONS[cls] for name, value in written(section).items()}
    assert page == dict(real(cls))


def test_the_page_has_no_other_sections() -> None:
    known = {section for sections in SECTIONS.values() for section in sections}
    assert set(re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)) == known
