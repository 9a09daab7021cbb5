"""What on-policy methods maximise: a weighted sum of rewards on the scale of the starting model, against a KL penalty.

r_B     = sum_i w_i r_iB                         the raw reward: what people are shown, always on one scale
r_hat_B = (r_B - mean) / spread                  over completions of the starting model (Ziegler et al. 2019)
r_B'    = r_hat_B - [no end token] missing_eos_penalty
share   = beta KL / spread of r_hat_B            the penalty of a completion in spreads of the reward
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.errors import ConfigError
from assent.ports.sampling import Progress, Scorer, WatchedScorer, check_finite
from assent.types import Completion, Conversation, StopReason

MOSTLY = 0.5  # a larger share of truncated completions makes the penalty for them no signal, or one for short ones
FAINT, CRUSHING = 0.01, 10.0  # shares of the penalty outside which it decides nothing, or everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """One of several rewards: what people call it, what scores, and how much it counts (0 only watches it)."""

    name: str
    scorer: Scorer
    weight: float = 1.0

    def watched(self, progress: Progress) -> Reward:
        """The same reward; it calls `progress` while it scores, if it takes long."""
        scorer = self.scorer
        return replace(self, scorer=scorer.watched(progress)) if isinstance(scorer, WatchedScorer) else self


class EnvironmentReward:
    """The reward that the environment gave as a `Scorer`; an end without one is worth 0."""

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """As it was given."""
        return [completion.reward or 0.0 for completion in completions]


class RewardSum:
    """Rewards added up with their weights; a `Scorer` itself. Several rewards need several names.

    One of weight 0 may be the `cost`, by its name: what is to stay under a budget.
    """

    def __init__(self, rewards: Sequence[Reward], *, cost: str | None = None) -> None:
        self.cost = cost
        if not any(reward.weight for reward in rewards):
            raise ConfigError("every reward has the weight 0, so there is nothing to maximise", where="reward_weights")
        self.rewards = tuple(rewards)

    def watched(self, progress: Progress) -> RewardSum:
        """The same rewards; those that take long call `progress` while they score."""
        return RewardSum([one.watched(progress) for one in self.rewards])

    def scores(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> dict[str, list[float]]:
        """The raw scores of every reward, by its name."""
        return {one.name: check_finite(one.scorer.score(prompts, completions), completions) for one in self.rewards}

    def total(self, scores: Mapping[str, Sequence[float]]) -> list[float]:
        """The weighted sum of what `scores` gave."""
        weights = [one.weight for one in self.rewards]
        return [
            sum(weight * score for weight, score in zip(weights, row, strict=True))
            for row in zip(*(scores[one.name] for one in self.rewards), strict=True)
        ]

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """The weighted sum for each completion."""
        return self.total(self.scores(prompts, completions))


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardScale:
    """Mean and spread (population standard deviation) of the raw reward of the starting model's completions.

    Training maximises (r - mean) / spread where the scale is `applied`, and the raw reward r where it is not.
    `truncated` is the share of these completions that were cut at max_tokens, `length` their mean length in tokens.
    """

    mean: float
    spread: float
    applied: bool = True
    truncated: float = 0.0
    length: float = 0.0

    @staticmethod
    def of(
        rewards: Sequence[float], *, applied: bool = True, truncated: float = 0.0, length: float = 0.0
    ) -> RewardScale:
        """The scale of some rewards. Those that differ by rounding alone have the spread 0, and none is applied."""
        mean = math.fsum(rewards) / len(rewards)
        spread = math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards))
        real = spread > 1e-6 * max(abs(reward) for reward in rewards)
        return RewardScale(
            mean=mean, spread=spread if real else 0.0, applied=applied and real, truncated=truncated, length=length
        )

    @property
    def gain(self) -> float:
        """What training maximises is gain * reward + offset."""
        return 1.0 / self.spread if self.applied else 1.0

    @property
    def offset(self) -> float:
        """See `gain`."""
        return -self.mean / self.spread if self.applied else 0.0

    def maximised(self, rewards: Sequence[float]) -> list[float]:
        """Raw rewards as training takes them."""
        return [(reward - self.mean) / self.spread for reward in rewards] if self.applied else list(rewards)

    def told(self) -> str:
        """The scale in a sentence."""
        start = f"the starting model's answers have the mean {self.mean:.4g} and the spread {self.spread:.4g}"
        if not self.applied:
            return f"Rewards are raw scores, and training maximises them as they are; {start}."
        return f"Rewards are raw scores: {start}. Training maximises (reward - {self.mean:.4g}) / {self.spread:.4g}."

    def eos_penalty(self, settings: OnPolicySettings) -> float:
        """What a completion without an end token costs: 1 unless set, and unless it would cost nearly all of them."""
        if settings.missing_eos_penalty is not None:
            return settings.missing_eos_penalty
        return 0.0 if self.truncated > MOSTLY else 1.0

    def told_of_truncation(self, settings: OnPolicySettings) -> str | None:
        """What is to be said if most completions of the starting model are cut, so that no penalty is taken."""
        if settings.missing_eos_penalty is not None or self.truncated <= MOSTLY:
            return None
        return (
            f"{self.truncated:.0%} of the starting model's completions are cut at max_tokens ({settings.max_tokens}), "
            "so no penalty is taken for a missing end. Raise max_tokens, or set missing_eos_penalty (for example 1) to "
            "teach shorter answers."
        )

    def share(self, penalty: float) -> float | None:
        """A KL penalty in spreads of the starting model's reward; None where the reward has none."""
        return penalty if self.applied else penalty / self.spread if self.spread else None

    def warning(self, kl: float, coefficient: float) -> str | None:
        """What is to be said of the penalty that a KL of `kl` nats costs, if it is far too small or too large."""
        share = self.share(coefficient * kl)
        if share is None:
            return (
                f"warning: the reward is {self.mean:.4g} for every completion of the starting model looked at: "
                "it cannot be normalised, and nothing is learned until completions differ in it"
            )
        if not coefficient or FAINT <= share <= CRUSHING:
            return None
        faint = share < FAINT
        effect = "hardly holds the policy" if faint else "outweighs the reward"
        remedy = f"{'Raise' if faint else 'Lower'} kl_coef{'' if self.applied else ', or set normalise_reward=true'}."
        return (
            f"warning: a KL of {kl:.3g} nats to the reference costs {share:.2g} standard deviations of the reward "
            f"(kl_coef {coefficient:.3g}): the penalty {effect}. {remedy}"
        )


def overlong_penalty(tokens: int, settings: OnPolicySettings) -> float:
    """DAPO's soft over-long punishment (Yu et al. 2025): rises over the last `overlong_tokens` before `max_tokens`."""
    over = tokens - (settings.max_tokens - settings.overlong_tokens)
    return settings.overlong_penalty * over / settings.overlong_tokens if over > 0 else 0.0


def shaped_rewards(rewards: Sequence[float], completions: Sequence[Completion], penalty: float) -> list[float]:
    """Rewards, less the penalty for completions that were cut at the limit."""
    return [
        reward - (penalty if completion.stop is not StopReason.END else 0.0)
        for reward, completion in zip(rewards, completions, strict=True)
    ]
