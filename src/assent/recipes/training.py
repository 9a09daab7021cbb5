"""Training in memory: each function takes models and judgement, trains, and gives back rows of metrics.

The same functions serve the command line, the Python API and the demo; what differs is only who watches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assent.algorithms.dpo import DPOSettings, dpo_task, encode_pairs, reference_logps
from assent.algorithms.epochs import TrainSettings
from assent.algorithms.loop import Watch, run_task
from assent.algorithms.ppo import Observer, PPOTask, reward_moments
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.reward import (
    Judgement,
    RewardSettings,
    judgements_of,
    reward_task,
    score_judgements,
    scored_pairs,
)
from assent.algorithms.sft import SFTSettings, encode_demonstrations, sft_task
from assent.backends.local.learner import LocalLearner, OptimizerSettings
from assent.evals.reward_quality import ScoredPairs
from assent.metrics import Metrics
from assent.ports.sampling import Progress, Scorer, silent
from assent.recipes.models import LanguageModel, RewardModel, critic_of, reference_of
from assent.seeds import derive
from assent.types import Comparison, Conversation, Demonstration, Ranking, Rating

Judged = Comparison | Ranking | Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Rows of metrics, and how many items were too long to be used."""

    rows: list[Metrics]
    left_out: int = 0


def _optimizer(settings: TrainSettings | PPOSettings) -> OptimizerSettings:
    return OptimizerSettings(weight_decay=settings.weight_decay, max_gradient_norm=settings.max_gradient_norm)


def train_sft(
    model: LanguageModel,
    demonstrations: Sequence[Demonstration],
    settings: SFTSettings,
    *,
    seed: int,
    held_out: Sequence[Demonstration] = (),
    watch: Watch = Watch(),
    resume: bool = False,
) -> Trained:
    """Fine-tune `model` in place on what the assistant said."""
    encoded = encode_demonstrations(demonstrations, model.template, max_length=_room(model, settings.max_length))
    unseen = encode_demonstrations(held_out, model.template, max_length=_room(model, settings.max_length))
    learner = LocalLearner(
        policy=model.role, dropout=settings.dropout == "model", optimizer=_optimizer(settings), seed=seed
    )
    task = sft_task(encoded.items, learner, settings=settings, seed=seed, held_out=unseen.items)
    return Trained(rows=run_task(task, watch, resume=resume), left_out=encoded.left_out)


def train_reward_model(
    reward: RewardModel,
    judged: Sequence[Judged],
    settings: RewardSettings,
    *,
    seed: int,
    watch: Watch = Watch(),
    resume: bool = False,
) -> Trained:
    """Train the reward model in place on comparisons, rankings or labels."""
    items = judgements_of(judged, reward.template, max_length=_reward_room(reward, settings.max_length))
    learner = LocalLearner(
        scalar=reward.role, dropout=settings.dropout == "model", optimizer=_optimizer(settings), seed=seed
    )
    task = reward_task(items.items, learner, settings=settings, seed=seed)
    return Trained(rows=run_task(task, watch, resume=resume), left_out=items.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredJudgements:
    """Held-out judgements, the reward of every completion, and the pairs lined up."""

    judgements: tuple[Judgement, ...]
    rewards: list[list[float]]
    pairs: ScoredPairs
    left_out: int


def score_judged(reward: RewardModel, judged: Sequence[Judged], settings: RewardSettings) -> ScoredJudgements:
    """The reward model's opinion of held-out judgements."""
    items = judgements_of(judged, reward.template, max_length=_reward_room(reward, settings.max_length))
    learner = LocalLearner(scalar=reward.role)
    rewards = score_judgements(items.items, learner, settings=settings)
    return ScoredJudgements(
        judgements=items.items, rewards=rewards, pairs=scored_pairs(items.items, rewards), left_out=items.left_out
    )


def train_dpo(
    model: LanguageModel,
    comparisons: Sequence[Comparison],
    settings: DPOSettings,
    *,
    seed: int,
    watch: Watch = Watch(),
    resume: bool = False,
    progress: Progress = silent,
) -> Trained:
    """Train the policy in place from pairs; `progress` counts pairs whose reference is computed."""
    pairs = encode_pairs(comparisons, model.template, max_length=_room(model, settings.max_length))
    learner = LocalLearner(
        policy=model.role, dropout=settings.dropout == "model", optimizer=_optimizer(settings), seed=seed
    )
    budget = settings.micro_batch_tokens
    references = reference_logps(pairs.items, learner, max_tokens=budget, progress=progress)
    task = dpo_task(pairs.items, references, learner, settings=settings, seed=seed)
    return Trained(rows=run_task(task, watch, resume=resume), left_out=pairs.left_out)


def normalise_reward(
    reward: RewardModel, model: LanguageModel, prompts: Sequence[Conversation], settings: PPOSettings, *, seed: int
) -> None:
    """Set the reward's shift and spread so that completions of the model as it is have mean 0 and spread 1."""
    reward.role.shift, reward.role.spread = 0.0, 1.0
    turns = model.sampler.sample(prompts, sampling=settings.sampling, seed=derive(seed, "normalise"))
    scores = reward.scorer.score(prompts, [turn.completion for turn in turns])
    reward.role.shift, reward.role.spread = reward_moments(scores)


def train_ppo(
    model: LanguageModel,
    prompts: Sequence[Conversation],
    settings: PPOSettings,
    *,
    seed: int,
    reward: RewardModel | None = None,
    scorer: Scorer | None = None,
    observer: Observer = lambda rollout: {},
    watch: Watch = Watch(),
    resume: bool = False,
) -> Trained:
    """Train the policy in place against a reward model (normalised before) or any other scorer."""
    chosen = scorer if scorer is not None else reward.scorer if reward is not None else None
    assert chosen is not None, "PPO needs a reward"
    reference = reference_of(model)
    shared = settings.critic == "shared"
    critic = critic_of(model, reward, shared_trunk=shared, seed=seed)
    learner = LocalLearner(
        policy=model.role, critic=critic, reference=reference, shared_trunk=shared, optimizer=_optimizer(settings)
    )
    task = PPOTask(
        prompts, learner=learner, sampler=model.sampler, scorer=chosen, settings=settings, seed=seed, observer=observer
    )
    return Trained(rows=run_task(task, watch, resume=resume))


def _room(model: LanguageModel, max_length: int) -> int:
    return min(max_length, model.role.body.max_length or max_length)


def _reward_room(reward: RewardModel, max_length: int) -> int:
    return min(max_length, reward.role.body.max_length or max_length)
