"""What an on-policy run is put together from, and which combinations are refused before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from assent.algorithms.on_policy.reward_signal import (
    RewardScale,
)
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.algorithms.on_policy.update import OnPolicyMethod
from assent.environments.acting import Actor
from assent.errors import ConfigError
from assent.ports.learning import Learner
from assent.ports.sampling import Scorer
from assent.text.template import Encoded
from assent.types import Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an on-policy run is put together from: prompts, who learns, who acts, who scores and on which scale.

    `ptx` is what the policy is to keep being able to say. `seconds_per_completion`: what it took to write and score one
    for the scale, if it was measured now.
    """

    prompts: Sequence[Conversation]
    learner: Learner
    actor: Actor
    scorer: Scorer
    scale: RewardScale
    observer: Observer = field(default_factory=Observer)
    ptx: Sequence[Encoded] = ()
    seconds_per_completion: float | None = None


def check_run(method: OnPolicyMethod, parts: Parts, settings: OnPolicySettings) -> None:
    """Raises ConfigError for what cannot be a run."""
    if not parts.prompts:
        raise ConfigError("there are no prompts to write completions for")
    if settings.mini_batches > settings.batch_size:
        raise ConfigError(f"{settings.mini_batches} mini-batches of {settings.batch_size} prompts would be empty")
    if settings.overlong_tokens > settings.max_tokens:
        raise ConfigError(f"overlong_tokens ({settings.overlong_tokens}) is more than max_tokens allows")
    if not method.per_token and (settings.kl_in, settings.kl_estimator) == ("reward", "exact"):
        raise ConfigError(
            "this method has one advantage for a whole completion; the exact KL in the reward needs one per token",
            now='Use kl_estimator="k1" in the reward, or kl_in="loss".',
        )
    if settings.evaluate_every and not parts.observer.held_out:
        now = "Give some (--eval-data), or leave evaluate_every out."
        raise ConfigError("there are no held-out prompts to measure on", where="evaluate_every", now=now)
