"""On-policy training made ready: the scale of a reward, the actor, the critics, the task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.parts import Parts
from assent.algorithms.on_policy.reward_signal import RewardScale, RewardSum
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.algorithms.on_policy.task import OnPolicyTask
from assent.algorithms.on_policy.update import OnPolicyMethod
from assent.algorithms.sft import encode_demonstrations
from assent.data.order import epoch_order
from assent.environments.acting import Actor, InEnvironment, without_failed
from assent.environments.single_turn import SingleTurn
from assent.errors import ConfigError, RunError
from assent.evals.judges import JudgeScorer
from assent.ports.environment import Environment
from assent.ports.learning import Roles
from assent.ports.sampling import Progress, Sampler, Scorer, check_finite, silent
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.run.progress import Display
from assent.recipes.run.roles import critic_of, critic_starts, reference_of
from assent.recipes.training.prepare import Prepared, learner_settings, refuse_action_values, room_for
from assent.seeds import derive
from assent.types import Conversation, Demonstration, StopReason

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
    asked, longest = _in_environment(given.prompts), room_for(model, settings.max_prompt_length + settings.max_tokens)
    ptx = encode_demonstrations(given.ptx, model.template, max_length=longest)
    refuse_action_values(model)
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
    found = prompts if isinstance(prompts, InEnvironment) else InEnvironment(prompts=prompts)
    if not found.prompts:
        raise ConfigError("there are no prompts to write completions for")
    return found


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
