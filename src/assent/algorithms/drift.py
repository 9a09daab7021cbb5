"""Whether the sampler writes with the model that the learner trains (N tokens of a rollout)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assent.algorithms.ppo_settings import PPOSettings
from assent.errors import RunError
from assent.types import Turn

DRIFT_LIMITS = {"fp32": 0.01, "bf16": 0.2}  # mean nats a token between sampler and learner; rounding makes a tenth
_READ_AGAIN_EVERY = 8  # completions whose hidden states a sampler kept, of which the learner reads one itself


def read_again(turns: Sequence[Turn]) -> list[int]:
    """The turns that the policy's trunk reads, whatever the sampler kept."""
    return [i for i, turn in enumerate(turns) if turn.states is None or i % _READ_AGAIN_EVERY == 0]


def check_drift(turns: Sequence[Turn], logp_N: Tensor, settings: PPOSettings, *, limit: float) -> None:
    """Refuse a sampler that writes with another model than the learner's: a mean difference above `limit` nats a token.

    Log-probabilities of a truncated distribution are rightly higher than the whole one's, so there only lower ones
    count. Raises RunError.
    """
    logp_by_turn = torch.split(logp_N, [len(turn.completion_ids) for turn in turns])
    read = read_again(turns)
    difference_N = torch.cat([logp_by_turn[i] - torch.tensor(turns[i].logps) for i in read])
    truncated = settings.top_p < 1.0 or settings.top_k > 0
    drift = (difference_N.clamp_min(0.0) if truncated else difference_N.abs()).mean().item()
    if drift > limit:
        raise RunError(
            f"sampler and learner disagree by {drift:.2g} nats a token (rounding explains {limit:g} at most)",
            now="They do not compute the same model, so nothing was updated with these completions. "
            "Use another architecture, or --set machine.precision=fp32.",
        )
