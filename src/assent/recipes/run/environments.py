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


def open_environment(name: str | Environment | None) -> OpenedEnvironment:
    """What --environment names, or an environment of a program. Raises ConfigError."""
    if name is None:
        return OpenedEnvironment()
    if not isinstance(name, str):
        check_environment(name, where="environment")
        source = DataSource(role="environment", name=type(name).__name__, sha256="", format="Python object")
        return OpenedEnvironment(environment=name, source=source)
    if name in ENVIRONMENTS:
        source = DataSource(role="environment", name=name, sha256="", format="environment")
        return OpenedEnvironment(environment=ENVIRONMENTS[name](), source=source)
    if not is_code(name, flag="--environment"):
        raise ConfigError(
            "there is no such environment", where=name, now=f"Name one of {', '.join(ENVIRONMENTS)}, or FILE.py:CLASS."
        )
    code = named_code(name, flag="--environment", kind="class")
    environment = imported(code.value, where=name, failed="it cannot be made", now="It is called without arguments.")
    check_environment(environment, where=name)
    source = DataSource(role="environment", name=code.name, sha256=code.sha256, format="Python class")
    return OpenedEnvironment(environment=environment, source=source)


def check_environment(environment: object, *, where: str) -> None:
    """Refuse what cannot be an environment."""
    lacking = [name for name in ("reset", "prompts") if not hasattr(environment, name)]
    if lacking:
        raise ConfigError(
            f"an environment has reset(prompt, seed) and prompts; this one lacks {' and '.join(lacking)}", where=where,
            now="prompts = () is enough where --data gives the prompts.",
        )  # fmt: skip
