"""The row of metrics of a rollout, before anything is learned from it."""

from __future__ import annotations

import math

from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.rollout import Scored
from assent.metrics import Metrics
from assent.types import StopReason


def rollout_metrics(written: Scored, experience: Experience) -> Metrics:
    """Means over all that was written and, for KL and entropy, over what is learned from.

    `kl` is in nats per sequence; `sampler_drift` compares sampler and learner.
    """
    turns, rewards, logp_N = written.turns, written.rewards, experience["logp"]
    mean = sum(rewards) / len(turns)
    found = {
        "reward": mean,
        "reward_std": math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(turns)),
        "kl": experience["kl"].sum().item() / len(experience.samples),
        "entropy": experience["entropy"].mean().item(),
        "length": sum(len(turn.completion_ids) for turn in turns) / len(turns),
        "truncated_fraction": sum(turn.completion.stop is not StopReason.END for turn in turns) / len(turns),
        "sampler_drift": (experience["sampler_logp"] - logp_N).abs().max().item(),
    }
    if "sampler_weight" in experience:
        found["sampler_weight"] = experience["sampler_weight"].mean().item()
    if "value" in experience and "return" in experience:
        spread = experience["return"].var(unbiased=False).clamp_min(1e-8)
        residual = (experience["return"] - experience["value"]).var(unbiased=False)
        found["explained_variance"] = 1.0 - (residual / spread).item()
    return found
