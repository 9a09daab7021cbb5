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
    episodes, rewards, logp_N = written.episodes, written.rewards, experience["logp"]
    turns = [turn for one in episodes for turn in one.turns]
    mean = sum(rewards) / len(rewards)
    found = {
        "reward": mean,
        "reward_std": math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards)),
        "kl": experience["kl"].sum().item() / len(experience.samples),
        "entropy": experience["entropy"].mean().item(),
        "length": sum(len(turn.completion_ids) for turn in turns) / len(episodes),
        "truncated_fraction": sum(one.completion.stop is not StopReason.END for one in episodes) / len(episodes),
        "sampler_drift": (experience["sampler_logp"] - logp_N).abs().max().item(),
    }
    if len(turns) > len(episodes):
        found["turns"] = len(turns) / len(episodes)
    if written.failed:
        found["failed_episodes"] = float(len(written.failed))
    if "sampler_weight" in experience:
        found["sampler_weight"] = experience["sampler_weight"].mean().item()
    if "value" in experience and "return" in experience:
        spread = experience["return"].var(unbiased=False).clamp_min(1e-8)
        residual = (experience["return"] - experience["value"]).var(unbiased=False)
        found["explained_variance"] = 1.0 - (residual / spread).item()
    return found
