"""The environment of a run: one of the package by its name, or a class of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from assent.environments.games.tictactoe import TicTacToe
from assent.environments.single_turn import SingleTurn
from assent.errors import ConfigError
from assent.ports.environment import Environment
from assent.recipes.run.reward_code import imported
from assent.recipes.run.user_code import is_code, named_code
from assent.runs.lineage import DataSource

ENVIRONMENTS: Mapping[str, Callable[[], Environment]] = {"tictactoe": TicTacToe}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEnvironment:
    """An environment and its entry of the lineage; answers to single prompts have none."""

    environment: Environment = field(default_factory=SingleTurn)
    source: DataSource | None = None


def open_environment(name: str | None) -> OpenedEnvironment:
    """What --environment names. Raises ConfigError."""
    if name is None:
        return OpenedEnvironment()
    if name in ENVIRONMENTS:
        source = DataSource(role="environment", name=name, sha256="", format="environment")
        return OpenedEnvironment(environment=ENVIRONMENTS[name](), source=source)
    if not is_code(name, flag="--environment"):
        raise ConfigError(
            "there is no such environment", where=name, now=f"Name one of {', '.join(ENVIRONMENTS)}, or FILE.py:CLASS."
        )
    code = named_code(name, flag="--environment", kind="class")
    environment = imported(code.value, where=name, failed="it cannot be made", now="It is called without arguments.")
    if lacking := [part for part in ("reset", "prompts") if not hasattr(environment, part)]:
        raise ConfigError(
            f"an environment has reset(prompt, seed) and prompts; this one lacks {' and '.join(lacking)}", where=name,
            now="prompts = () is enough where --data gives the prompts.",
        )  # fmt: skip
    source = DataSource(role="environment", name=code.name, sha256=code.sha256, format="Python class")
    return OpenedEnvironment(environment=environment, source=source)
