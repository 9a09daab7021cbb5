"""Proximal policy optimisation from a reward on whole completions (Schulman et al. 2017; Stiennon et al. 2020).

repeat: write completions with the policy, score them
        r_t = -beta KL_t + [t is the last token] reward            (KL in the reward; `reward_signal` has the scale)
        A, R = GAE(r, V)
        for some epochs, for each mini-batch:
            L = clipped policy loss + c_v clipped value loss - c_e entropy (+ beta KL, if the KL is in the loss)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from assent.algorithms.drift import DRIFT_LIMITS, check_drift, read_again
from assent.algorithms.epochs import MicroBatch, SkippedBatch, update
from assent.algorithms.experience import Experience, flat_sequences, flat_turns
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.reward_signal import Reward, RewardScale, RewardSum, shaped_rewards
from assent.algorithms.schedule import learning_rate
from assent.data.order import epoch_order, token_budget_batches
from assent.errors import ConfigError, RunError
from assent.losses.advantages import gae, whiten
from assent.losses.kl import AdaptiveKL, kl_k1, kl_k2, kl_k3, kl_penalty, own_token_term
from assent.losses.policy import clipped_policy_loss, clipped_value_loss, entropy_bonus
from assent.metrics import Metrics
from assent.ports.learning import Learner, LossResult, Need, Outputs
from assent.ports.sampling import Sampler, Scorer
from assent.seeds import derive
from assent.types import Completion, Conversation, StopReason, Turn

_USELESS = {("loss", "k1"), ("reward", "k2")}  # see docs/algorithms.md, "KL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What an observer sees of an iteration: prompts, completions, and their raw rewards."""

    iteration: int
    prompts: tuple[Conversation, ...]
    completions: tuple[Completion, ...]
    rewards: tuple[float, ...]


Observer = Callable[[Rollout], Metrics]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Per-token statistics of a rollout under the policy that wrote it (N tokens)."""

    logp_N: Tensor
    value_N: Tensor
    reference_logp_N: Tensor
    kl_N: Tensor
    entropy_N: Tensor


class PPOTask:
    """Ticks: the rollout of an iteration, then each of its updates; a checkpoint may lie between any two."""

    unit = "iterations"

    def __init__(
        self,
        prompts: Sequence[Conversation],
        *,
        learner: Learner,
        sampler: Sampler,
        scorer: Scorer,
        scale: RewardScale,
        settings: PPOSettings,
        seed: int,
        observer: Observer = lambda rollout: {},
        say: Callable[[str], None] = lambda text: None,
        score_tokens: int | None = None,
        drift_limit: float = DRIFT_LIMITS["fp32"],
    ) -> None:
        if not prompts:
            raise ConfigError("there are no prompts to write completions for")
        if (settings.kl_in, settings.kl_estimator) in _USELESS:
            raise ConfigError(
                f"the {settings.kl_estimator} estimate in the {settings.kl_in} has (nearly) no gradient",
                now='Use kl_estimator="exact" anywhere, "k1" in the reward, "k2" or "k3" in the loss.',
            )
        if settings.mini_batches > settings.batch_size:
            raise ConfigError(f"{settings.mini_batches} mini-batches of {settings.batch_size} samples would be empty")
        self._prompts, self._learner, self._sampler, self.scale = prompts, learner, sampler, scale
        self._reward = scorer if isinstance(scorer, RewardSum) else RewardSum([Reward(name="reward", scorer=scorer)])
        self._settings, self._seed, self._observer, self._say = settings, seed, observer, say
        self._controller = AdaptiveKL(
            coefficient=settings.kl_coef,
            target=settings.adaptive_kl_target or 1.0,
            horizon=settings.adaptive_kl_horizon,
        )
        self._warned, self._drift_limit = self._warn(1.0), drift_limit
        self._score_tokens = min(settings.micro_batch_tokens, score_tokens or settings.micro_batch_tokens)
        self._experience: Experience | None = None
        self._row: Metrics = {}
        self._tallies: list[Metrics] = []
        self._stopped = False
        self.skipped_batches: list[SkippedBatch] = []
        self._ticks = self.ticks_per_unit = settings.updates + 1
        self.total = settings.iterations * self._ticks

    def tick(self, index: int) -> Metrics | None:
        """The rollout (first tick of an iteration) or one update; the row of metrics comes with the last update."""
        iteration, phase = divmod(index, self._ticks)
        if phase == 0:
            self._collect(iteration)
            return None
        if not self._stopped:
            self._update(iteration, phase - 1)
        if phase < self._settings.updates:
            return None
        return self._finish(iteration)

    def _collect(self, iteration: int) -> None:
        """Write and score completions with the policy as it is, and turn them into experience."""
        settings = self._settings
        prompts = [self._prompts[i] for i in self._prompt_indices(iteration)]
        seed = derive(self._seed, "rollout", iteration)
        turns = self._sampler.sample(prompts, sampling=settings.sampling, seed=seed)
        completions = [turn.completion for turn in turns]
        scores = self._reward.scores(prompts, completions)
        rewards = self._reward.total(scores)
        maximised = self.scale.maximised(rewards)
        scored = self._score(turns)
        check_drift(turns, scored.logp_N, settings, limit=self._drift_limit)
        reward_B = torch.tensor(shaped_rewards(maximised, completions, settings))
        self._experience = build_experience(turns, scored, reward_B, self._controller.coefficient, settings)
        self._row = rollout_metrics(turns, rewards, scored, self._experience)
        self._row["reward_normalised"] = sum(maximised) / len(maximised)
        if len(scores) > 1:
            self._row |= {f"reward/{name}": sum(values) / len(values) for name, values in scores.items()}
        self._row |= self._penalty(self._row["kl"])
        self._row |= self._observer(
            Rollout(iteration=iteration, prompts=tuple(prompts), completions=tuple(completions), rewards=tuple(rewards))
        )
        self._tallies, self._stopped = [], False
        if settings.adaptive_kl_target is not None:
            self._controller = self._controller.updated(self._row["kl"], len(turns))

    def _penalty(self, kl: float) -> Metrics:
        """What the KL of a completion costs, in units of the reward that is maximised and in its spreads."""
        coefficient = self._controller.coefficient
        self._warned = self._warned or (kl >= 1.0 and self._warn(kl))
        share = self.scale.share(coefficient * kl)
        found = {"kl_coef": coefficient, "kl_penalty": coefficient * kl}
        return found if share is None else found | {"penalty_share": share}

    def _warn(self, kl: float) -> bool:
        """Say it if a KL of some nats costs next to nothing, or more than the reward can weigh up; once in a run."""
        warning = self.scale.warning(kl, self._controller.coefficient)
        if warning is not None:
            self._say(warning)
        return warning is not None

    def _prompt_indices(self, iteration: int) -> list[int]:
        """The prompts of an iteration: epochs over all prompts, each in its own order."""
        count, size = len(self._prompts), self._settings.batch_size
        chosen = []
        for position in range(iteration * size, (iteration + 1) * size):
            epoch, place = divmod(position, count)
            chosen.append((epoch, place))
        orders = {
            epoch: epoch_order(count, seed=derive(self._seed, "prompts"), epoch=epoch)
            for epoch in {e for e, _ in chosen}
        }
        return [int(orders[epoch][place]) for epoch, place in chosen]

    def _score(self, turns: Sequence[Turn]) -> Scored:
        """Statistics of every completion token under policy, reference and critic, micro-batch by micro-batch.

        Where the sampler kept its hidden states, the policy's trunk reads only some completions again, to see that both
        say the same.
        """
        settings = self._settings
        need = Need(
            entropy=True,
            kl=settings.kl_estimator == "exact",
            kl_top_k=settings.kl_top_k,
            reference_logp=settings.kl_estimator != "exact",
            value=True,
            temperature=settings.temperature,
        )
        columns: dict[int, tuple[Tensor, ...]] = {}
        read = read_again(turns)
        for group in (read, sorted(set(range(len(turns))) - set(read))):
            lengths = {i: len(turns[i].prompt_ids) + len(turns[i].completion_ids) for i in group}
            order = sorted(group, key=lengths.__getitem__)
            for part in token_budget_batches([lengths[i] for i in order], self._score_tokens):
                chosen = order[part.start : part.stop]
                batch = flat_turns([turns[i] for i in chosen])
                outputs = self._learner.score(batch, need, None if group is read else _states(turns, chosen))
                parts = [
                    torch.split(found.float().cpu(), list(batch.predicted)) for found in _columns(outputs, settings)
                ]
                columns |= {i: tuple(found[place] for found in parts) for place, i in enumerate(chosen)}
        joined = [torch.cat([columns[i][place] for i in range(len(turns))]) for place in range(5)]
        names = ("logp_N", "value_N", "reference_logp_N", "kl_N", "entropy_N")
        return Scored(**dict(zip(names, joined, strict=True)))

    def _update(self, iteration: int, update_index: int) -> None:
        settings, experience = self._settings, self._experience
        assert experience is not None
        epoch, mini = divmod(update_index, settings.mini_batches)
        order = epoch_order(len(experience.sequences), seed=derive(self._seed, "mini", iteration), epoch=epoch)
        samples = [int(i) for i in order[mini :: settings.mini_batches]]
        rate = learning_rate(
            iteration * settings.updates + update_index,
            peak=settings.learning_rate,
            total=settings.iterations * settings.updates,
            warmup_share=settings.warmup_share,
            schedule=settings.schedule,
        )
        pieces = ppo_pieces(experience.select(samples), settings, self._controller.coefficient)
        row = update(self._learner, pieces, rate, self.skipped_batches)
        self._tallies.append(row)
        limit = settings.target_kl
        self._stopped = limit is not None and row["approx_kl"] > limit

    def _finish(self, iteration: int) -> Metrics:
        names = sorted({name for row in self._tallies for name in row})
        found = {name: [row[name] for row in self._tallies if name in row] for name in names}
        row = self._row | {name: sum(values) / len(values) for name, values in found.items()}
        row["skipped_updates"] = float(sum(found.get("skipped_updates", [])))
        row["updates"], row["iteration"] = float(len(self._tallies)), float(iteration + 1)
        self._experience = None
        return row

    def state(self) -> dict[str, Any]:
        """The learner, the KL coefficient, the reward's scale, and the experience if an iteration is under way."""
        experience = self._experience.tree() if self._experience is not None else None
        return {
            "learner": self._learner.state(),
            "kl_coef": self._controller.coefficient,
            "scale": asdict(self.scale),
            "experience": experience,
            "row": self._row,
            "tallies": self._tallies,
            "stopped": self._stopped,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""
        self._learner.restore(state["learner"])
        self._learner.publish()
        self._controller = AdaptiveKL(
            coefficient=state["kl_coef"], target=self._controller.target, horizon=self._controller.horizon
        )
        self.scale = RewardScale(**state["scale"])
        self._experience = Experience.from_tree(state["experience"]) if state["experience"] is not None else None
        self._row, self._tallies, self._stopped = state["row"], state["tallies"], state["stopped"]


def _states(turns: Sequence[Turn], chosen: Sequence[int]) -> Tensor:
    """The hidden states that the chosen turns' tokens were drawn from, one row a token."""
    return torch.cat([torch.from_numpy(turns[i].states) for i in chosen])


def _columns(outputs: Outputs, settings: PPOSettings) -> tuple[Tensor, ...]:
    """Log-probability, value, the reference's log-probability, a KL that is never negative, entropy (all M)."""
    logp_M, value_M, entropy_M = outputs.logp_M, outputs.value_M, outputs.entropy_M
    assert logp_M is not None and value_M is not None and entropy_M is not None
    assert outputs.reference_logp_M is not None
    kl_M = outputs.kl_M if settings.kl_estimator == "exact" else kl_k3(logp_M, outputs.reference_logp_M)
    assert kl_M is not None
    return logp_M, value_M, outputs.reference_logp_M, kl_M, entropy_M


def build_experience(
    turns: Sequence[Turn], scored: Scored, reward_B: Tensor, coefficient: float, settings: PPOSettings
) -> Experience:
    """Token rewards (KL penalty, and the reward on the last token), whitened or not; GAE; whitened advantages."""
    lengths = [len(turn.completion_ids) for turn in turns]
    last_B = torch.tensor(lengths).cumsum(0) - 1
    penalty = coefficient if settings.kl_in == "reward" else 0.0
    k1 = settings.kl_estimator == "k1"
    kl_N = kl_k1(scored.logp_N, scored.reference_logp_N) if k1 else scored.kl_N
    reward_N = (-penalty * kl_N).index_add(0, last_B, reward_B.to(kl_N.dtype))
    every_N = torch.ones_like(reward_N, dtype=torch.bool)
    if settings.whiten_rewards:
        penalty *= (reward_N.var(unbiased=False) + 1e-8).rsqrt().item()  # the own-token term is of the same unit
        reward_N = whiten(reward_N, every_N, shift_mean=False)
    advantage_N, return_N = gae(reward_N, scored.value_N, lengths, gamma=settings.gamma, gae_lambda=settings.gae_lambda)
    if settings.kl_estimator == "exact":
        advantage_N = advantage_N + own_token_term(
            scored.kl_N, scored.logp_N, scored.reference_logp_N, coefficient=penalty
        )
    if not bool(torch.isfinite(advantage_N).all()):
        raise RunError(
            "an advantage is not finite", now="Nothing was updated with it; look at the rewards and the value loss."
        )
    if settings.whiten_advantages:
        advantage_N = whiten(advantage_N, every_N)
    return Experience(
        sequences=tuple(turn.prompt_ids + turn.completion_ids for turn in turns),
        prompt_lengths=tuple(len(turn.prompt_ids) for turn in turns),
        old_logp_N=scored.logp_N,
        value_N=scored.value_N,
        advantage_N=advantage_N,
        return_N=return_N,
    )


def rollout_metrics(turns: Sequence[Turn], rewards: Sequence[float], scored: Scored, experience: Experience) -> Metrics:
    """Means over the rollout. `kl` is in nats per sequence; `sampler_drift` compares sampler and learner."""
    count, tokens = len(turns), scored.logp_N.shape[0]
    mean = sum(rewards) / count
    sampled_N = torch.tensor([logp for turn in turns for logp in turn.logps])
    spread = experience.return_N.var(unbiased=False).clamp_min(1e-8)
    residual = (experience.return_N - scored.value_N).var(unbiased=False)
    return {
        "reward": mean,
        "reward_std": math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / count),
        "kl": scored.kl_N.sum().item() / count,
        "entropy": scored.entropy_N.mean().item(),
        "length": tokens / count,
        "truncated_fraction": sum(turn.completion.stop is not StopReason.END for turn in turns) / count,
        "explained_variance": 1.0 - (residual / spread).item(),
        "sampler_drift": (sampled_N - scored.logp_N).abs().max().item(),
    }


def ppo_pieces(experience: Experience, settings: PPOSettings, coefficient: float) -> list[MicroBatch]:
    """Micro-batches of one update; every piece divides by the token count of the whole mini-batch."""
    order = sorted(range(len(experience.sequences)), key=lambda i: len(experience.sequences[i]))
    lengths = [len(experience.sequences[i]) for i in order]
    step_tokens = float(experience.old_logp_N.shape[0])
    in_loss = settings.kl_in == "loss" and coefficient > 0
    need = Need(
        entropy=settings.entropy_coef > 0,
        kl=in_loss and settings.kl_estimator == "exact",
        kl_top_k=settings.kl_top_k,
        reference_logp=in_loss and settings.kl_estimator != "exact",
        value=True,
        temperature=settings.temperature,
    )
    pieces = []
    for part in token_budget_batches(lengths, settings.micro_batch_tokens):
        run = experience.select([order[place] for place in part])
        loss = partial(
            ppo_loss, run=run, settings=settings, coefficient=coefficient if in_loss else 0.0, step_tokens=step_tokens
        )
        pieces.append(MicroBatch(batch=flat_sequences(run.sequences, run.prompt_lengths), need=need, loss=loss))
    return pieces


def ppo_loss(
    outputs: Outputs, *, run: Experience, settings: PPOSettings, coefficient: float, step_tokens: float
) -> LossResult:
    """The whole PPO loss of one micro-batch."""
    logp_M, value_M = outputs.logp_M, outputs.value_M
    assert logp_M is not None and value_M is not None
    every_M = torch.ones_like(logp_M, dtype=torch.bool)
    old_logp_M, old_value_M, advantage_M, return_M = (
        column.to(logp_M.device) for column in (run.old_logp_N, run.value_N, run.advantage_N, run.return_N)
    )
    policy = clipped_policy_loss(
        logp_M, old_logp_M, advantage_M, every_M,
        clip_range_low=settings.clip_range_low, clip_range_high=settings.clip_range_high, step_tokens=step_tokens,
    )  # fmt: skip
    value = clipped_value_loss(
        value_M, old_value_M, return_M, every_M, clip=settings.clip_range_value, step_tokens=step_tokens
    )
    loss = policy.loss + settings.value_coef * value.loss
    if outputs.entropy_M is not None:
        loss = loss - settings.entropy_coef * entropy_bonus(outputs.entropy_M, every_M, step_tokens=step_tokens)
    if coefficient > 0:
        loss = loss + coefficient * _kl_in_loss(outputs, every_M, settings, step_tokens)
    sums = {
        "policy_loss": policy.loss.item() * step_tokens,
        "value_loss": value.loss.item() * step_tokens,
        "clip_fraction": policy.clipped.item(),
        "approx_kl": policy.kl.item(),
        "ratio": policy.ratio.item(),
    }
    return LossResult(loss=loss, sums=sums, count=float(logp_M.shape[0]))


def _kl_in_loss(outputs: Outputs, every_M: Tensor, settings: PPOSettings, step_tokens: float) -> Tensor:
    if settings.kl_estimator == "exact":
        assert outputs.kl_M is not None
        return kl_penalty(outputs.kl_M, every_M, step_tokens=step_tokens)
    assert outputs.logp_M is not None and outputs.reference_logp_M is not None
    estimator = kl_k3 if settings.kl_estimator == "k3" else kl_k2
    return kl_penalty(estimator(outputs.logp_M, outputs.reference_logp_M), every_M, step_tokens=step_tokens)
