"""The rewards of a run: reward models, classifiers and functions, by their names and weights, as one scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assent.algorithms.on_policy.reward_signal import EnvironmentReward, Reward, RewardSum
from assent.errors import ConfigError
from assent.ports.sampling import Scorer
from assent.recipes.run.inputs import model_folder
from assent.recipes.run.models import RewardModel
from assent.recipes.run.reward_functions import FunctionScorer, function_reward, is_function
from assent.runs.lineage import DataSource, Parent, named
from assent.types import Conversation

OWN_REWARD = ("environment", EnvironmentReward())  # by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a reward came from: a function's source, or a model by its role among the parents of a run.

    `positive` is the name of the class that is the reward; empty for a model of one class.
    """

    role: str = ""
    positive: str = ""
    source: DataSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """Who gives the rewards, for people: the weighted sum, and every reward by its name.

    Two figures are on one scale only where their judges are equal, so weights and chosen class are part of it.
    """

    total: str
    each: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """Rewards as one scorer, with where each came from, in the same order."""

    scorer: RewardSum
    parents: Mapping[str, str] = field(default_factory=dict)
    origins: tuple[Origin, ...] = ()

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The functions among them, for the lineage."""
        return tuple(one.source for one in self.origins if one.source is not None)

    def judges(self, parents: Sequence[Parent]) -> Judges:
        """Who judges, where `parents` are those of the run."""
        models = {one.role: one for one in parents}
        each = {
            reward.name: named(origin.source) if origin.source else
            f"reward model {named(models[origin.role], origin.positive)}"
            for reward, origin in zip(self.scorer.rewards, self.origins, strict=True)
        }  # fmt: skip
        weighed = [(one.weight, each[one.name]) for one in self.scorer.rewards if one.weight]
        total = " + ".join(told if weight == 1 else f"{weight:.12g} * {told}" for weight, told in weighed)
        return Judges(total=total, each=each)

    def check(self, prompts: Sequence[Conversation]) -> None:
        """Refuse prompts that lack what a function asks for."""
        for one in self.scorer.rewards:
            if isinstance(one.scorer, FunctionScorer):
                one.scorer.check(prompts)

    @property
    def functions(self) -> bool:
        """Whether code of the user's is among them."""
        return any(isinstance(one.scorer, FunctionScorer) for one in self.scorer.rewards)


def open_rewards(
    names: Sequence[str], weights: Sequence[float], load: Callable[[str, bool], RewardModel],
    *, environment: DataSource | None = None,
) -> Rewards:  # fmt: skip
    """The rewards that the command line names: folders of models, which `load` opens, and functions.

    `load` gets a folder and whether it is the first of them. The environment's own reward is the last. Raises
    ConfigError.
    """
    scorers: list[tuple[str, Scorer]] = []
    parents: dict[str, str] = {}
    origins: list[Origin] = []
    for name in names:
        if is_function(name):
            function = function_reward(name)
            scorers.append((name.rpartition(":")[2], function.scorer))
            origins.append(Origin(source=function.source))
        else:
            folder = model_folder(name)
            model = load(folder, not parents)
            scorers.append((name_of_folder(folder), model.scorer))
            role = "reward" if not parents else f"reward {len(parents) + 1}"
            origins.append(Origin(role=role, positive=model.names[model.positive] if len(model.names) > 1 else ""))
            parents[role] = folder
    if environment is not None:
        scorers.append(OWN_REWARD)
        origins.append(Origin(source=environment))
    return Rewards(scorer=weighted(scorers, weights), parents=parents, origins=tuple(origins))


def weighted(scorers: Sequence[tuple[str, Scorer]], weights: Sequence[float]) -> RewardSum:
    """Named scorers with their weights (none given: 1 each); equal names are numbered. Raises ConfigError."""
    if not scorers:
        raise ConfigError("no reward was given", now="Name a reward model, a classifier or a function.")
    if weights and len(weights) != len(scorers):
        what = f"there are {len(scorers)} rewards and {len(weights)} weights"
        raise ConfigError(what, where="reward_weights", now="Give one weight for each reward, in their order.")
    rewards: list[Reward] = []
    for (name, scorer), weight in zip(scorers, weights or [1.0] * len(scorers), strict=True):
        taken = {one.name for one in rewards}
        number = next(number for number in range(1, len(scorers) + 1) if _numbered(name, number) not in taken)
        rewards.append(Reward(name=_numbered(name, number), scorer=scorer, weight=weight))
    return RewardSum(rewards)


def name_of_folder(folder: str) -> str:
    """What people call the model in a folder: the folder, or the run's folder around `model`."""
    path = Path(folder)
    return path.parent.name if path.name == "model" and path.parent.name else path.name or folder


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
