"""A judge as a reward: `--reward judge:MODEL` asks a model how well completions keep the principles, from 1 to 10."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from assent.config import Settings
from assent.constitution.constitution_file import default_path, load_constitution
from assent.constitution.endpoint import EndpointOptions
from assent.constitution.principles import Tag
from assent.constitution.scoring import DirectScorer
from assent.durable import sha256_file
from assent.recipes.run.chat_models import chat_model
from assent.recipes.run.machine import MachineOptions
from assent.runs.lineage import DataSource

PREFIX = "judge:"


class JudgeOptions(Settings):
    """How a judge scores. `constitution` empty takes the package's own; `tags` only the principles that have one of
    them; `principles` are drawn for each completion and averaged (0: all of them)."""

    constitution: str = ""
    tags: tuple[Tag, ...] = ()
    principles: int = Field(default=1, ge=0)
    seed: int = Field(default=0, ge=0)
    endpoint: EndpointOptions = EndpointOptions()

    @property
    def path(self) -> Path:
        """The file of the principles."""
        return Path(self.constitution) if self.constitution else default_path()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReward:
    """The judge as a scorer, and what it is for the lineage."""

    scorer: DirectScorer
    source: DataSource


def is_judge(name: str) -> bool:
    """Whether a reward name means a judge."""
    return name.startswith(PREFIX)


def judge_reward(name: str, options: JudgeOptions, machine: MachineOptions) -> JudgeReward:
    """The judge that `judge:MODEL` means; connections to a server are closed when the process ends."""
    path = options.path
    constitution = load_constitution(path).tagged(options.tags)
    opened = ExitStack()
    atexit.register(opened.close)
    model, origin = opened.enter_context(chat_model(name.removeprefix(PREFIX), options.endpoint, machine))
    scorer = DirectScorer(model, constitution, principles=options.principles, seed=options.seed)
    told = f"judge {origin.name} ({origin.sha256[:8]}) with {path.name}"
    return JudgeReward(scorer=scorer, source=DataSource(role="reward", name=told, sha256=sha256_file(path)))
