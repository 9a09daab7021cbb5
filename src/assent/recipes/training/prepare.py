"""Training in memory: each function takes models and judgement, trains, and gives back rows of metrics.

The same functions serve the command line, the Python API and the demo; what differs is only who watches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from assent.algorithms.epochs import EpochTask, OfflineMethod, TrainSettings
from assent.algorithms.loop import Task, Watch, run_task
from assent.algorithms.reward import (
    REWARD_MODEL,
    EncodedPreference,
    RewardSettings,
    judgements_of,
    score_judgements,
    scored_pairs,
)
from assent.algorithms.schedule import OptimizerSettings
from assent.errors import ConfigError
from assent.evals.reward_quality import ScoredLabels, ScoredPairs
from assent.metrics import Metrics
from assent.model.action_values import FILE as ACTION_VALUES
from assent.ports.learning import LearnerSettings, Roles
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.run.progress import Display
from assent.recipes.training.head_training import HeadFirst, HeadTask, why_not
from assent.recipes.training.people_training import PeopleTask, ThenPeople
from assent.types import Comparison, Demonstration, Ranking, Rating, RewardedDialogue

SomeTask = TypeVar("SomeTask", bound=Task, covariant=True)
PreferenceData = Comparison | Ranking | Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Generic[SomeTask]):
    """A training task, read and checked but not begun, and how many items were too long to be used.

    `notes` are sentences for people: what the chat template does to the data that they should know. `scored` gives
    held-out examples the reward that is implicit in the policy at that time, if the method puts one into it.
    """

    task: SomeTask
    skipped: int = 0
    notes: tuple[str, ...] = ()
    scored: Callable[[], ScoredPairs | ScoredLabels] | None = None

    def run(self, watch: Watch = Watch(), *, resume: bool = False) -> list[Metrics]:
        """Train; gives the rows of metrics."""
        return run_task(self.task, watch, resume=resume)


def learner_settings(settings: OptimizerSettings) -> LearnerSettings:
    """The learner's part of the settings."""
    return LearnerSettings(
        beta1=settings.adam_beta1, beta2=settings.adam_beta2, weight_decay=settings.weight_decay,
        max_gradient_norm=settings.max_gradient_norm, micro_batch_tokens=settings.micro_batch_tokens,
        gradient_checkpointing=settings.gradient_checkpointing,
        dropout=isinstance(settings, TrainSettings) and settings.dropout == "model",
    )  # fmt: skip


def prepare_offline(
    method: OfflineMethod,
    model: LanguageModel | RewardModel,
    examples: Sequence[Any],
    settings: TrainSettings,
    *,
    seed: int,
    held_out: Sequence[Any] = (),
    display: Display = Display(quiet=True),
) -> Prepared[Task]:
    """A task that trains `model` in place on examples; where the method has a reference, it is read now."""
    if isinstance(model, LanguageModel) and method.equip is None:
        refuse_action_values(model)
    encode = partial(method.encode, template=model.template, max_length=room_for(model, settings.max_length))
    train, roles = encode(examples), _roles(model)
    talks = [
        one.conversation if isinstance(one, Demonstration | RewardedDialogue) else one.prompt
        for one in (*examples, *held_out)
    ]
    notes = model.template.notes(talks)
    if (made := len(train.items) + train.skipped) > len(examples):
        notes += (
            f"{len(examples)} conversations give {made} examples, one for each turn whose context the chat "
            "template writes in another way later",
        )
    people = _people_fit(model, train.items, settings, display) if isinstance(settings, RewardSettings) else None
    if people is not None and isinstance(settings, RewardSettings) and settings.train == "people":
        return Prepared(task=people, skipped=train.skipped, notes=notes)
    fit = _head_fit(model, train.items, settings, display) if isinstance(settings, RewardSettings) else None
    if isinstance(model, RewardModel) and model.goes_on:
        told = "trained on" if fit is None else "fitted anew"
        notes = (f"{model.path} is a reward model: its head is {told}", *notes)
    if isinstance(settings, RewardSettings) and fit is not None and settings.train == "head":
        return Prepared(task=_then(fit, people), skipped=train.skipped, notes=notes)
    if isinstance(model, LanguageModel) and method.equip is not None:
        method.equip(model.role, settings, seed)
    learner = model.backend.learner(roles, learner_settings(settings), seed=seed)
    items: Sequence[Any] = train.items
    unseen: Sequence[Any] = encode(held_out).items if held_out else ()
    if method.reference is not None:
        with display.stage("reference", len(items), unit="examples") as stage:
            items = method.reference(items, learner, progress=stage.counter)
        unseen = method.reference(unseen, learner) if unseen else ()
    scored = partial(method.rewards, unseen, learner, settings) if method.rewards and unseen else None
    task = EpochTask(learner, method.objective(items, settings), items, settings, seed=seed, held_out=unseen)
    if fit is not None:
        notes = (*notes, "the head is fitted first, then everything is trained from there (head_first)")
        return Prepared(task=_then(HeadFirst(fit, task, display), people), skipped=train.skipped, notes=notes)
    return Prepared(task=_then(task, people), skipped=train.skipped, notes=notes, scored=scored)


def _people_fit(
    model: LanguageModel | RewardModel, items: Sequence[EncodedPreference], settings: RewardSettings, display: Display
) -> PeopleTask | None:
    """The fit of annotators' own heads, where it is wanted."""
    assert isinstance(model, RewardModel), "reward settings are those of a reward model"
    wanted = settings.personal_rank or settings.train == "people"
    return PeopleTask(model.role, items, settings, display) if wanted else None


def _then(task: EpochTask | HeadTask | HeadFirst, people: PeopleTask | None) -> Task:
    return task if people is None else ThenPeople(task, people)


def refuse_action_values(model: LanguageModel) -> None:
    """Other methods would train the network that the values read, and not the policy that writes by them."""
    if model.role.action_values is not None:
        raise ConfigError(
            "this model writes by action values, which this method cannot train", where=model.path,
            now=f"Copy the folder without {ACTION_VALUES} to train its behaviour policy alone.",
        )  # fmt: skip


def _head_fit(
    model: LanguageModel | RewardModel, items: Sequence[EncodedPreference], settings: RewardSettings, display: Display
) -> HeadTask | None:
    """The fit of a head: all that is trained, or what training starts from where it can be made and is wanted."""
    assert isinstance(model, RewardModel), "reward settings are those of a reward model"
    first = settings.head_first and not model.goes_on and why_not(model.role, items, settings) is None
    return HeadTask(model.role, items, settings, display) if settings.train == "head" or first else None


def _roles(model: LanguageModel | RewardModel) -> Roles:
    return Roles(policy=model.role) if isinstance(model, LanguageModel) else Roles(scalar=model.role)


def room_for(model: LanguageModel | RewardModel, tokens: int) -> int:
    return min(tokens, model.role.body.max_length or tokens)


def train_reward_model_wise_ft(
    reward: RewardModel,
    judged: Sequence[PreferenceData],
    settings: RewardSettings,
    *,
    seed: int,
    watch: Watch = Watch(),
) -> list[Metrics]:
    """Train from the weights as they are, a fitted head among them, and take the mean of before and after.

    Training all weights learns what the trunk cannot tell yet and forgets some of what it could tell of others than
    those it is trained on. It forgets less from a fitted head (Kumar et al. 2022, arXiv 2202.10054), and the mean of
    the weights keeps most of both (Wortsman et al. 2022, arXiv 2109.01903).
    """
    settings = settings.model_copy(update={"head_first": False})
    before = {name: weight.detach().clone() for name, weight in reward.role.parameters().items()}
    rows = prepare_offline(REWARD_MODEL, reward, judged, settings, seed=seed).run(watch)
    with torch.no_grad():
        for name, weight in reward.role.parameters().items():
            weight.lerp_(before[name], 0.5)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredJudgements:
    """Held-out judgements, the reward of every completion, and the pairs lined up."""

    judgements: tuple[EncodedPreference, ...]
    rewards: list[list[float]]
    pairs: ScoredPairs
    skipped: int


def score_judged(reward: RewardModel, judged: Sequence[PreferenceData], settings: RewardSettings) -> ScoredJudgements:
    """The reward model's opinion of held-out judgements."""
    items = judgements_of(judged, reward.template, max_length=room_for(reward, settings.max_length))
    learner = reward.backend.learner(_roles(reward), learner_settings(settings))
    rewards = score_judgements(items.items, learner, positive=reward.positive)
    return ScoredJudgements(
        judgements=items.items, rewards=rewards, pairs=scored_pairs(items.items, rewards), skipped=items.skipped
    )
