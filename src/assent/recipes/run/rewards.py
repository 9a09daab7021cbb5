"""The rewards of a run: reward models, classifiers, functions and judges, by their names and weights, as one scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from assent.algorithms.best_of_n import BestOfN
from assent.algorithms.on_policy.reward_signal import EnvironmentReward, Reward, RewardSum
from assent.errors import ConfigError
from assent.ports.sampling import Sampler, Scorer
from assent.recipes.run.inputs import model_folder
from assent.recipes.run.judge_rewards import JudgeOptions, is_judge, judge_reward
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import RewardModel
from assent.recipes.run.reward_functions import FunctionScorer, function_reward, is_function
from assent.runs.lineage import DataSource, Parent, named
from assent.types import Conversation

COST = "cost"
OWN_REWARD = ("environment", EnvironmentReward())  # by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a reward came from: the source of a function or judge, or a model by its role among the parents of a run.

    `head` says which of a model's: the class that is the reward, or the annotator; empty where there is one only.
    """

    role: str = ""
    head: str = ""
    source: DataSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """Who gives the rewards, for people: the weighted sum, and every reward by its name; one may be the cost.

    Two figures are on one scale only where their judges are equal, so weights, class and annotator are part of it.
    """

    total: str
    each: Mapping[str, str]
    cost: str | None = None


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
            f"reward model {named(models[origin.role], origin.head)}"
            for reward, origin in zip(self.scorer.rewards, self.origins, strict=True)
        }  # fmt: skip
        weighed = [(one.weight, each[one.name]) for one in self.scorer.rewards if one.weight]
        total = " + ".join(told if weight == 1 else f"{weight:.12g} * {told}" for weight, told in weighed)
        return Judges(total=total, each=each, cost=self.scorer.cost)

    def check(self, prompts: Sequence[Conversation]) -> None:
        """Refuse prompts that lack what a function asks for."""
        for one in self.scorer.rewards:
            if isinstance(one.scorer, FunctionScorer):
                one.scorer.check(prompts)

    @property
    def functions(self) -> bool:
        """Whether code of the user's is among them."""
        return any(isinstance(one.scorer, FunctionScorer) for one in self.scorer.rewards)


class RewardsSettings(Protocol):
    """What a job's settings say of its rewards."""

    @property
    def reward_weights(self) -> tuple[float, ...]:
        """One for each reward, in their order; none: 1 each."""

    @property
    def judge(self) -> JudgeOptions:
        """How judges score."""

    @property
    def machine(self) -> MachineOptions:
        """Where a judge runs that is a model in this process."""


def open_rewards(
    names: Sequence[str],
    settings: RewardsSettings,
    load: Callable[[str, bool], RewardModel],
    *,
    cost: str | None = None,
    environment: DataSource | None = None,
) -> Rewards:
    """The rewards of the command line, and the cost: folders of models, which `load` opens, functions and judges.

    An `environment` gives a reward of its own.

    `load` gets a folder and whether it is the first of them. The environment's own reward is the last. Raises
    ConfigError.
    """
    scorers: list[tuple[str, Scorer]] = []
    parents: dict[str, str] = {}
    origins: list[Origin] = []
    for place, name in enumerate([*names, *filter(None, [cost])]):
        kind = "reward" if place < len(names) else "cost"
        if is_judge(name):
            judge = judge_reward(name, settings.judge, settings.machine)
            scorers.append(("judge", judge.scorer))
            origins.append(Origin(source=replace(judge.source, role=kind)))
        elif is_function(name):
            function = function_reward(name)
            scorers.append((name.rpartition(":")[2], function.scorer))
            origins.append(Origin(source=replace(function.source, role=kind)))
        else:
            folder = model_folder(name)
            model = load(folder, not parents)
            scorers.append((name_of_folder(folder), model.scorer))
            role = f"reward {len(parents) + 1}" if parents and kind == "reward" else kind
            chosen = model.names[model.positive] if len(model.names) > 1 else model.annotator
            origins.append(Origin(role=role, head=chosen))
            parents[role] = folder
    costs = scorers[len(names) :]
    if environment is not None:
        scorers.insert(len(names), OWN_REWARD)
        origins.insert(len(names), Origin(source=environment))
    given = scorers[: len(scorers) - len(costs)]
    scorer = weighted(given, settings.reward_weights, cost=costs[-1][1] if costs else None)
    return Rewards(scorer=scorer, parents=parents, origins=tuple(origins))


def best_of_n(sampler: Sampler, rewards: Rewards | None, wanted: int | None) -> BestOfN | None:
    """What `--best-of` asks for, if it was given. Raises ConfigError where it chooses nothing, or by nothing."""
    if wanted is None:
        return None
    if wanted < 2:
        raise ConfigError(f"the best of {wanted} is no choice", where="--best-of", now="Give 2 or more.")
    if rewards is None:
        raise ConfigError("nothing says which completion is best", where="--best-of", now="Give --reward as well.")
    return BestOfN(sampler=sampler, scorer=rewards.scorer, n=wanted)


def weighted(
    scorers: Sequence[tuple[str, Scorer]], weights: Sequence[float], *, cost: Scorer | None = None
) -> RewardSum:
    """Named scorers with their weights (none given: 1 each), and the cost; equal names are numbered. ConfigError."""
    if not scorers:
        raise ConfigError("no reward was given", now="Name a reward model, a classifier or a function.")
    if weights and len(weights) != len(scorers):
        what = f"there are {len(scorers)} rewards and {len(weights)} weights"
        raise ConfigError(what, where="reward_weights", now="Give one weight for each reward, in their order.")
    rewards: list[Reward] = []
    every = [*zip(scorers, weights or [1.0] * len(scorers), strict=True)]
    for (name, scorer), weight in every if cost is None else [*every, ((COST, cost), 0.0)]:
        taken = {one.name for one in rewards}
        number = next(number for number in range(1, len(scorers) + 2) if _numbered(name, number) not in taken)
        rewards.append(Reward(name=_numbered(name, number), scorer=scorer, weight=weight))
    return RewardSum(rewards, cost=None if cost is None else rewards[-1].name)


def name_of_folder(folder: str) -> str:
    """What people call the model in a folder: the folder, or the run's folder around `model`."""
    path = Path(folder)
    return path.parent.name if path.name == "model" and path.parent.name else path.name or folder


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
