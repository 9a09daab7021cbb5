"""Training in memory: each function takes models and judgement, trains, and gives back rows of metrics.

The same functions serve the command line, the Python API and the demo; what differs is only who watches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from assent.algorithms.dpo import DPOSettings, ReferredPairs, dpo_task, encode_pairs, reference_logps
from assent.algorithms.drift import DRIFT_LIMITS
from assent.algorithms.epochs import TrainSettings
from assent.algorithms.loop import Task, Watch, run_task
from assent.algorithms.ppo import Observer, PPOTask
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.pretrain import PretrainSettings
from assent.algorithms.reward import (
    EncodedPreference,
    RewardSettings,
    judgements_of,
    reward_task,
    score_judgements,
    scored_pairs,
)
from assent.algorithms.reward_signal import RewardScale, RewardSum
from assent.algorithms.sft import SFTSettings, encode_demonstrations, sft_task
from assent.backends.local.learner import LocalLearner, OptimizerSettings
from assent.backends.local.sampler import LocalSampler, RewardScorer
from assent.data.order import epoch_order
from assent.errors import ConfigError, RunError
from assent.evals.reward_quality import ScoredPairs
from assent.metrics import Metrics
from assent.ports.sampling import Progress, Scorer, check_finite, silent
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.run.roles import critic_of, reference_of
from assent.recipes.training.head_training import HeadTask
from assent.seeds import derive
from assent.types import Comparison, Conversation, Demonstration, Ranking, Rating

PreferenceData = Comparison | Ranking | Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Rows of metrics, and how many items were too long to be used."""

    rows: list[Metrics]
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A training task, read and checked but not begun, and how many items were too long to be used.

    `notes` are sentences for people: what the chat template does to the data that they should know.
    """

    task: Task
    skipped: int = 0
    notes: tuple[str, ...] = ()

    def run(self, watch: Watch = Watch(), *, resume: bool = False) -> Trained:
        """Train."""
        return Trained(rows=run_task(self.task, watch, resume=resume), skipped=self.skipped)


def optimizer_of(settings: TrainSettings | PPOSettings | PretrainSettings) -> OptimizerSettings:
    """The optimiser's part of the settings."""
    return OptimizerSettings(
        beta1=settings.adam_beta1, beta2=settings.adam_beta2, weight_decay=settings.weight_decay,
        max_gradient_norm=settings.max_gradient_norm,
    )  # fmt: skip


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
    return prepare_sft(model, demonstrations, settings, seed=seed, held_out=held_out).run(watch, resume=resume)


def prepare_sft(
    model: LanguageModel,
    demonstrations: Sequence[Demonstration],
    settings: SFTSettings,
    *,
    seed: int,
    held_out: Sequence[Demonstration] = (),
) -> Prepared:
    """The task of `train_sft`."""
    encoded = encode_demonstrations(demonstrations, model.template, max_length=_room(model, settings.max_length))
    unseen = encode_demonstrations(held_out, model.template, max_length=_room(model, settings.max_length))
    learner = LocalLearner(
        policy=model.role, dropout=settings.dropout == "model", optimizer=optimizer_of(settings), seed=seed
    )
    task = sft_task(encoded.items, learner, settings=settings, seed=seed, held_out=unseen.items)
    notes = model.template.notes(one.conversation for one in (*demonstrations, *held_out))
    if (examples := len(encoded.items) + encoded.skipped) > len(demonstrations):
        notes += (
            f"{len(demonstrations)} conversations give {examples} examples, one for each turn whose context the chat "
            "template writes in another way later",
        )
    return Prepared(task=task, skipped=encoded.skipped, notes=notes)


def train_reward_model(
    reward: RewardModel,
    judged: Sequence[PreferenceData],
    settings: RewardSettings,
    *,
    seed: int,
    watch: Watch = Watch(),
    resume: bool = False,
) -> Trained:
    """Train the reward model in place on comparisons, rankings or labels."""
    return prepare_reward(reward, judged, settings, seed=seed).run(watch, resume=resume)


def train_reward_model_wise_ft(
    reward: RewardModel,
    judged: Sequence[PreferenceData],
    settings: RewardSettings,
    *,
    seed: int,
    watch: Watch = Watch(),
) -> Trained:
    """Train from the weights as they are, a fitted head among them, and take the mean of before and after.

    Training all weights learns what the trunk cannot tell yet and forgets some of what it could tell of others than
    those it is trained on. It forgets less from a fitted head (Kumar et al. 2022, arXiv 2202.10054), and the mean of
    the weights keeps most of both (Wortsman et al. 2022, arXiv 2109.01903).
    """
    before = {name: weight.detach().clone() for name, weight in reward.role.parameters().items()}
    trained = train_reward_model(reward, judged, settings, seed=seed, watch=watch)
    with torch.no_grad():
        for name, weight in reward.role.parameters().items():
            weight.lerp_(before[name], 0.5)
    return trained


def prepare_reward(
    reward: RewardModel,
    judged: Sequence[PreferenceData],
    settings: RewardSettings,
    *,
    seed: int,
    held_out: Sequence[PreferenceData] = (),
) -> Prepared:
    """The task of `train_reward_model`."""
    items = judgements_of(judged, reward.template, max_length=_reward_room(reward, settings.max_length))
    notes = reward.template.notes(one.prompt for one in judged)
    if settings.train == "head":
        return Prepared(task=HeadTask(reward.role, items.items, settings), skipped=items.skipped, notes=notes)
    learner = LocalLearner(
        scalar=reward.role, dropout=settings.dropout == "model", optimizer=optimizer_of(settings), seed=seed
    )
    unseen: tuple[EncodedPreference, ...] = ()
    if held_out:
        unseen = judgements_of(held_out, reward.template, max_length=_reward_room(reward, settings.max_length)).items
    task = reward_task(items.items, learner, settings=settings, seed=seed, held_out=unseen)
    return Prepared(task=task, skipped=items.skipped, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredJudgements:
    """Held-out judgements, the reward of every completion, and the pairs lined up."""

    judgements: tuple[EncodedPreference, ...]
    rewards: list[list[float]]
    pairs: ScoredPairs
    skipped: int


def score_judged(reward: RewardModel, judged: Sequence[PreferenceData], settings: RewardSettings) -> ScoredJudgements:
    """The reward model's opinion of held-out judgements."""
    items = judgements_of(judged, reward.template, max_length=_reward_room(reward, settings.max_length))
    learner = LocalLearner(scalar=reward.role)
    rewards = score_judgements(items.items, learner, settings=settings, positive=reward.positive)
    return ScoredJudgements(
        judgements=items.items, rewards=rewards, pairs=scored_pairs(items.items, rewards), skipped=items.skipped
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
    return prepare_dpo(model, comparisons, settings, seed=seed, progress=progress).run(watch, resume=resume)


def prepare_dpo(
    model: LanguageModel,
    comparisons: Sequence[Comparison],
    settings: DPOSettings,
    *,
    seed: int,
    progress: Progress = silent,
    held_out: HeldOutPairs | None = None,
) -> Prepared:
    """The task of `train_dpo`, with the reference's log-probabilities computed."""
    pairs = encode_pairs(comparisons, model.template, max_length=_room(model, settings.max_length))
    learner = LocalLearner(
        policy=model.role, dropout=settings.dropout == "model", optimizer=optimizer_of(settings), seed=seed
    )
    budget = settings.micro_batch_tokens
    references = reference_logps(pairs.items, learner, max_tokens=budget, progress=progress)
    train = ReferredPairs(pairs=pairs.items, references=references)
    unseen = held_out.referred if held_out is not None else None
    task = dpo_task(train, learner, settings=settings, seed=seed, held_out=unseen)
    notes = model.template.notes(one.prompt for one in comparisons)
    return Prepared(task=task, skipped=pairs.skipped, notes=notes)


class HeldOutPairs:
    """Held-out pairs under the policy as it is now; later, the reward that DPO has put into the policy's weights.

    The implicit reward of a completion is beta (log pi - log ref), summed over its tokens.
    """

    def __init__(self, model: LanguageModel, comparisons: Sequence[Comparison], settings: DPOSettings) -> None:
        self._model, self._settings = model, settings
        sized = encode_pairs(comparisons, model.template, max_length=_room(model, settings.max_length))
        self._pairs, self.skipped = sized.items, sized.skipped
        self.referred = ReferredPairs(pairs=sized.items, references=self._logps())

    def _logps(self) -> list[Tensor]:
        learner, budget = LocalLearner(policy=self._model.role), self._settings.micro_batch_tokens
        return reference_logps(self._pairs, learner, max_tokens=budget, progress=silent)

    def _sums(self, logps: Sequence[Tensor]) -> list[tuple[float, float]]:
        lengths = [sum(pair.chosen.assistant_mask) for pair in self._pairs]
        return [
            (float(logp_M[:length].double().sum()), float(logp_M[length:].double().sum()))
            for logp_M, length in zip(logps, lengths, strict=True)
        ]

    def scored(self) -> ScoredPairs:
        """The pairs with their implicit rewards."""
        before, after, beta = self._sums(self.referred.references), self._sums(self._logps()), self._settings.beta
        changes = [(now[0] - then[0], now[1] - then[1]) for now, then in zip(after, before, strict=True)]
        return ScoredPairs(
            chosen=[beta * chosen for chosen, _ in changes],
            rejected=[beta * rejected for _, rejected in changes],
            probability=[pair.probability for pair in self._pairs],
            chosen_length=[sum(pair.chosen.assistant_mask) for pair in self._pairs],
            rejected_length=[sum(pair.rejected.assistant_mask) for pair in self._pairs],
            groups=[pair.group for pair in self._pairs],
        )


def measure_scale(
    scorer: Scorer, model: LanguageModel, prompts: Sequence[Conversation], settings: PPOSettings, *, seed: int
) -> RewardScale:
    """The scale of a reward on `normalise_prompts` completions of the model as it is.

    Their prompts are drawn by lot; fewer prompts are answered several times.
    """
    drawn = epoch_order(len(prompts), seed=derive(seed, "normalise prompts"), epoch=0)
    asked = [prompts[int(drawn[place % len(prompts)])] for place in range(settings.normalise_prompts)]
    turns = model.sampler.sample(asked, sampling=settings.sampling, seed=derive(seed, "normalise"))
    completions = [turn.completion for turn in turns]
    scores = check_finite(scorer.score(asked, completions), completions)
    return RewardScale.of(scores, applied=settings.normalise_reward)


def train_ppo(
    model: LanguageModel,
    prompts: Sequence[Conversation],
    settings: PPOSettings,
    *,
    seed: int,
    reward: RewardModel | Scorer,
    scale: RewardScale | None = None,
    observer: Observer = lambda rollout: {},
    watch: Watch = Watch(),
    resume: bool = False,
) -> Trained:
    """Train the policy in place against a reward model or any other scorer, which stays as it is."""
    prepared = prepare_ppo(model, prompts, settings, seed=seed, reward=reward, scale=scale, observer=observer)
    return prepared.run(watch, resume=resume)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPPO(Prepared):
    """A PPO task; its `task.scale` is the reward's scale at the start, of a resumed run the one that it began with."""

    task: PPOTask


def prepare_ppo(
    model: LanguageModel,
    prompts: Sequence[Conversation],
    settings: PPOSettings,
    *,
    seed: int,
    reward: RewardModel | Scorer,
    scale: RewardScale | None = None,
    observer: Observer = lambda rollout: {},
    say: Callable[[str], None] = lambda text: None,
) -> PreparedPPO:
    """The task of `train_ppo`: reward measured (if no `scale` is given), reference and critic made, nothing written.

    What is worth knowing of reward and penalty before the first step goes to `say`. Raises RunError for a reward model
    that scores every completion the same.
    """
    if not prompts:
        raise ConfigError("there are no prompts to write completions for")
    _refuse_unsteady(model, prompts, settings.max_tokens)
    scorer = reward.scorer if isinstance(reward, RewardModel) else reward
    scale = scale or measure_scale(scorer, model, prompts, settings, seed=seed)
    network, weight = _network(scorer)
    if network is not None and not scale.spread:
        raise RunError(
            f"the reward is {scale.mean:.4g} for every completion of the starting model, so there is nothing to learn",
            now="Look at the reward model: is it trained, and does it see the answer?",
        )
    say(scale.told())
    reference = reference_of(model)
    shared = settings.critic == "shared"
    critic = critic_of(
        model, network, shared_trunk=shared, seed=seed, gain=scale.gain * weight, offset=scale.offset
    )  # fmt: skip
    learner = LocalLearner(
        policy=model.role, critic=critic, reference=reference, shared_trunk=shared, optimizer=optimizer_of(settings)
    )
    sampler = LocalSampler(model.role, model.template, keep_states=True)
    task = PPOTask(
        prompts, learner=learner, sampler=sampler, scorer=scorer, scale=scale, settings=settings, seed=seed,
        observer=observer, say=say, score_tokens=model.role.body.read_at_once,
        drift_limit=DRIFT_LIMITS[model.role.body.precision],
    )  # fmt: skip
    return PreparedPPO(task=task)


def _network(scorer: Scorer) -> tuple[RewardScorer | None, float]:
    """The reward model that is the whole reward, for the critic to start from, and its weight."""
    alone = scorer.rewards[0] if isinstance(scorer, RewardSum) and len(scorer.rewards) == 1 else None
    scorer, weight = (alone.scorer, alone.weight) if alone else (scorer, 1.0)
    return (scorer if isinstance(scorer, RewardScorer) else None), weight


def _refuse_unsteady(model: LanguageModel, prompts: Sequence[Conversation], max_tokens: int) -> None:
    """What is drawn token by token must be what is read at once, or its log-probabilities are not those it had."""
    steady = model.role.body.steady_length
    if steady is None:
        return
    longest = max(len(ids) for ids in model.template.encode_prompts(list(prompts)))
    if longest + max_tokens > steady:
        raise ConfigError(
            f"this model's rotary embeddings change beyond {steady} tokens, and a prompt has {longest} with "
            f"{max_tokens} to come", where=model.path,
            now="Leave out long prompts or lower max_tokens; SFT and DPO take any length.",
        )  # fmt: skip


def _room(model: LanguageModel, max_length: int) -> int:
    return min(max_length, model.role.body.max_length or max_length)


def _reward_room(reward: RewardModel, max_length: int) -> int:
    return min(max_length, reward.role.body.max_length or max_length)
