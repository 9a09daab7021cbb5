"""What all on-policy methods share; each knob is one symbol of the page of algorithms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assent.algorithms.schedule import OptimizerSettings, Schedule
from assent.environments.acting import EpisodeLimits
from assent.ports.sampling import SamplingParams

KLEstimator = Literal["k1", "k2", "k3", "exact"]


class OnPolicySettings(OptimizerSettings):
    """One iteration = one rollout of `batch_size` prompts and `epochs` x `mini_batches` updates."""

    iterations: int = Field(default=100, ge=1)
    batch_size: int = Field(default=128, ge=1)
    samples_per_prompt: int = Field(default=1, ge=1)
    epochs: int = Field(default=2, ge=1)
    mini_batches: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0)
    schedule: Schedule = "linear"
    warmup_share: float = Field(default=0.02, ge=0, lt=1)
    max_prompt_length: int = Field(default=1024, ge=1)
    max_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    entropy_coef: float = Field(default=0.0, ge=0)
    kl_coef: float = Field(default=0.05, ge=0)
    kl_estimator: KLEstimator = "exact"
    kl_top_k: int | None = Field(default=None, ge=1)
    kl_in: Literal["reward", "loss"] = "reward"
    adaptive_kl_target: float | None = Field(default=None, gt=0)
    adaptive_kl_horizon: float = Field(default=10000.0, gt=0)
    target_kl: float | None = Field(default=None, gt=0)
    kl_budget: float | None = Field(default=None, gt=0)
    normalise_reward: bool = True
    normalise_prompts: int = Field(default=256, ge=2)
    reward_weights: tuple[float, ...] = ()
    evaluate_every: int = Field(default=0, ge=0)
    missing_eos_penalty: float | None = Field(default=None, ge=0)
    overlong_tokens: int = Field(default=0, ge=0)
    overlong_penalty: float = Field(default=1.0, gt=0)
    ptx_coef: float = Field(default=0.0, ge=0)
    ptx_batch_size: int = Field(default=16, ge=1)
    max_turns: int = Field(default=16, ge=1)
    max_episode_tokens: int | None = Field(default=None, ge=1)
    environment_threads: int = Field(default=0, ge=0)

    @property
    def sampling(self) -> SamplingParams:
        return SamplingParams(
            max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p, top_k=self.top_k
        )

    @property
    def limits(self) -> EpisodeLimits:
        return EpisodeLimits(
            max_turns=self.max_turns, max_tokens=self.max_episode_tokens, threads=self.environment_threads
        )

    @property
    def updates(self) -> int:
        """Optimiser updates per iteration."""
        return self.epochs * self.mini_batches

    @property
    def refills(self) -> int:
        """Extra rollouts, at most, that replace groups whose completions all have the same reward."""
        return 0


class AdvantageSettings(OnPolicySettings):
    """Methods that weigh what was written by advantages."""

    whiten_advantages: bool = True
    whiten_rewards: bool = False
    max_sampler_weight: float | None = Field(default=None, gt=0)


class ClippedSettings(AdvantageSettings):
    """How far the ratio of the policy to the one that wrote may go before it earns nothing."""

    clip_range_low: float = Field(default=0.2, gt=0, lt=1)
    clip_range_high: float = Field(default=0.2, gt=0)


class GroupSettings(OnPolicySettings):
    """Methods that compare the completions of one prompt with each other."""

    batch_size: int = Field(default=16, ge=1)
    samples_per_prompt: int = Field(default=8, ge=2)
    epochs: int = Field(default=1, ge=1)
    kl_in: Literal["reward", "loss"] = "loss"
    refill_rollouts: int = Field(default=0, ge=0)

    @property
    def refills(self) -> int:
        """As set."""
        return self.refill_rollouts


class GroupBaselineSettings(GroupSettings, AdvantageSettings):
    """Methods whose baseline is the group."""

    whiten_advantages: bool = False
