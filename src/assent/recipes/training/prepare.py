"""Training in memory: each function takes models and judgement, trains, and gives back rows of metrics.

The same functions serve the command line, the Python API and the demo; what differs is only who watches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from assent.algorithms.epochs import EpochTask, OfflineMethod, TrainSettings
from assent.algorithms.loop import Task, Watch, run_task
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.reward_signal import RewardScale, RewardSum
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.algorithms.on_policy.task import OnPolicyTask, Parts
from assent.algorithms.on_policy.update import OnPolicyMethod
from assent.algorithms.reward import (
    REWARD_MODEL,
    EncodedPreference,
    RewardSettings,
    judgements_of,
    score_judgements,
    scored_pairs,
)
from assent.algorithms.schedule import OptimizerSettings
from assent.algorithms.sft import encode_demonstrations
from assent.data.order import epoch_order
from assent.environments.acting import Actor, InEnvironment, without_failed
from assent.environments.single_turn import SingleTurn
from assent.errors import ConfigError, RunError
from assent.evals.judges import JudgeScorer
from assent.evals.reward_quality import ScoredLabels, ScoredPairs
from assent.metrics import Metrics
from assent.model.action_values import FILE as ACTION_VALUES
from assent.ports.environment import Environment
from assent.ports.learning import LearnerSettings, Roles
from assent.ports.sampling import Progress, Sampler, Scorer, check_finite, silent
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.run.progress import Display
from assent.recipes.run.roles import critic_of, critic_starts, reference_of
from assent.recipes.training.head_training import HeadFirst, HeadTask, why_not
from assent.recipes.training.people_training import PeopleTask, ThenPeople
from assent.seeds import derive
from assent.types import Comparison, Conversation, Demonstration, Ranking, Rating, RewardedDialogue, StopReason

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
        _refuse_action_values(model)
    encode = partial(method.encode, template=model.template, max_length=_room(model, settings.max_length))
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
        notes = (
            f"{model.path} is a reward model: its head is {'trained on' if fit is None else 'fitted anew'}",
            *notes,
        )
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


def _refuse_action_values(model: LanguageModel) -> None:
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


def _room(model: LanguageModel | RewardModel, tokens: int) -> int:
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
    items = judgements_of(judged, reward.template, max_length=_room(reward, settings.max_length))
    learner = reward.backend.learner(_roles(reward), learner_settings(settings))
    rewards = score_judgements(items.items, learner, positive=reward.positive)
    return ScoredJudgements(
        judgements=items.items, rewards=rewards, pairs=scored_pairs(items.items, rewards), skipped=items.skipped
    )


Prompts = Sequence[Conversation] | InEnvironment


def actor_of(sampler: Sampler, settings: OnPolicySettings, environment: Environment) -> Actor:
    """Who writes in a training run."""
    return Actor(sampler=sampler, sampling=settings.sampling, environment=environment, limits=settings.limits)


def measure_scale(
    scorer: Scorer, model: LanguageModel, prompts: Prompts, settings: OnPolicySettings, *, seed: int,
    progress: Progress = silent,
) -> RewardScale:  # fmt: skip
    """The scale of a reward on `normalise_prompts` episodes of the model as it is.

    Their prompts are drawn by lot; fewer prompts are answered several times, and so are all where completions are
    compared with each other.
    """
    KLShaping.of(settings)  # refuses a useless estimate before anything is sampled
    asked = _in_environment(prompts)
    prompts, actor = asked.prompts, actor_of(model.sampler, settings, asked.environment)
    _refuse_unsteady(model, prompts, actor)
    drawn = epoch_order(len(prompts), seed=derive(seed, "normalise prompts"), epoch=0)
    scorers = [one.scorer for one in scorer.rewards] if isinstance(scorer, RewardSum) else [scorer]
    compared = settings.samples_per_prompt if any(isinstance(one, JudgeScorer) for one in scorers) else 1
    count = -(-settings.normalise_prompts // compared)
    starts = [prompts[int(drawn[place % len(prompts)])] for place in range(count) for _ in range(compared)]
    episodes = without_failed(actor.play(starts, seed=derive(seed, "normalise"), progress=progress))
    completions = [one.completion for one in episodes]
    scores = check_finite(scorer.score([one.prompt for one in episodes], completions), completions)
    cut = sum(completion.stop is not StopReason.END for completion in completions) / len(completions)
    length = sum(len(turn.completion_ids) for one in episodes for turn in one.turns) / len(episodes)
    return RewardScale.of(scores, applied=settings.normalise_reward, truncated=cut, length=length)


@dataclass(frozen=True, slots=True, kw_only=True)
class PTXPrompts:
    """Prompts, and demonstrations that are imitated in every update (`ptx_coef`)."""

    prompts: Prompts
    ptx: Sequence[Demonstration] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledReward:
    """A reward whose scale was measured before, in so much time for each completion that was looked at."""

    reward: RewardModel | Scorer
    scale: RewardScale
    seconds_per_completion: float | None = None


def scaled_reward(
    scorer: Scorer, model: LanguageModel, prompts: Prompts, settings: OnPolicySettings, *, seed: int,
    kept: RewardScale | None, display: Display,
) -> ScaledReward:  # fmt: skip
    """A reward on the scale that a run has kept, or else on the one that is measured now."""
    if kept is not None:
        return ScaledReward(reward=scorer, scale=kept)
    started, count = time.perf_counter(), settings.normalise_prompts
    with display.stage("normalise", count, unit="completions") as stage:
        scale = measure_scale(scorer, model, prompts, settings, seed=seed, progress=stage.counter)
    took = (time.perf_counter() - started) / count
    return ScaledReward(reward=scorer, scale=scale, seconds_per_completion=took)


def prepare_on_policy(
    method: OnPolicyMethod,
    model: LanguageModel,
    prompts: Prompts | PTXPrompts,
    settings: OnPolicySettings,
    *,
    seed: int,
    reward: RewardModel | Scorer | ScaledReward,
    observer: Observer = Observer(),
) -> Prepared[OnPolicyTask]:
    """A task that trains the policy in place against a reward model or any other scorer, which stays as it is.

    The reward is measured (unless it is scaled), reference and critics are made, nothing is written. What is worth
    knowing of reward and penalty before the first step is said to the observer. Raises RunError for a reward model
    that scores every completion the same.
    """
    given = prompts if isinstance(prompts, PTXPrompts) else PTXPrompts(prompts=prompts)
    asked, longest = _in_environment(given.prompts), _room(model, settings.max_prompt_length + settings.max_tokens)
    ptx = encode_demonstrations(given.ptx, model.template, max_length=longest)
    if not asked.prompts:
        raise ConfigError("there are no prompts to write completions for")
    _refuse_action_values(model)
    actor = actor_of(model.backend.sampler(model.role, model.template, rollouts=True), settings, asked.environment)
    _refuse_unsteady(model, asked.prompts, actor)
    scale, seconds = None, None
    if isinstance(reward, ScaledReward):
        scale, seconds, reward = reward.scale, reward.seconds_per_completion, reward.reward
    scorer = reward.scorer if isinstance(reward, RewardModel) else reward
    scale = scale or measure_scale(scorer, model, asked, settings, seed=seed)
    starts = critic_starts(scorer, scale)
    if starts[0].network is not None and not scale.spread:
        raise RunError(
            f"the reward is {scale.mean:.4g} for every completion of the starting model, so there is nothing to learn",
            now="Look at the reward model: is it trained, and does it see the answer?",
        )
    for told in filter(None, (scale.told(), scale.told_of_truncation(settings))):
        observer.say(told)
    reference = reference_of(model)
    critics = {
        value: critic_of(
            model, start.network, name=f"critic{place or ''}", shared_trunk=kind == "shared", seed=seed,
            gain=start.gain, offset=start.offset,
        )
        for place, ((value, kind), start) in enumerate(zip(method.critics(settings).items(), starts, strict=False))
    }  # fmt: skip
    roles = Roles(policy=model.role, critics=critics, reference=reference)
    parts = Parts(
        prompts=asked.prompts, learner=model.backend.learner(roles, learner_settings(settings)), actor=actor,
        scorer=scorer, scale=scale, observer=observer, ptx=ptx.items, seconds_per_completion=seconds,
    )  # fmt: skip
    return Prepared(task=OnPolicyTask(method, parts, settings, seed=seed), skipped=ptx.skipped)


def _in_environment(prompts: Prompts) -> InEnvironment:
    return prompts if isinstance(prompts, InEnvironment) else InEnvironment(prompts=prompts)


def _refuse_unsteady(model: LanguageModel, prompts: Sequence[Conversation], actor: Actor) -> None:
    """What is drawn token by token must be what is read at once, or its log-probabilities are not those it had."""
    steady = model.role.body.steady_length
    if steady is None:
        return
    longest = actor.room
    if isinstance(actor.environment, SingleTurn):
        longest = max(len(ids) for ids in model.template.encode_prompts(list(prompts))) + actor.most_tokens
    if longest > steady:
        raise ConfigError(
            f"this model's rotary embeddings change beyond {steady} tokens, and what is written and read before it may "
            f"have {longest}", where=model.path,
            now="Leave out long prompts or lower max_tokens; SFT and DPO take any length.",
        )  # fmt: skip
