"""Whether the sampler writes with the model that the learner trains (N tokens of a rollout)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from assent.algorithms.on_policy.experience import Sample
from assent.errors import RunError
from assent.ports.learning import Outputs


def check_drift(samples: Sequence[Sample], outputs: Sequence[Outputs], *, truncated: bool, limit: float) -> None:
    """Refuse a sampler that writes with another model than the learner's: a mean difference above `limit` nats a token.

    Log-probabilities of a truncated distribution are rightly higher than the whole one's, so there only lower ones
    count. Samples that the learner did not read itself say nothing. Raises RunError.
    """
    difference_N = torch.cat(
        [
            found["logp"] - sample.columns["sampler_logp"]
            for sample, found in zip(samples, outputs, strict=True)
            if not found.from_states
        ]
    )
    drift = (difference_N.clamp_min(0.0) if truncated else difference_N.abs()).mean().item()
    if drift > limit:
        raise RunError(
            f"sampler and learner disagree by {drift:.2g} nats a token (rounding explains {limit:g} at most)",
            now="They do not compute the same model, so nothing was updated with these completions. "
            "Use another architecture, or --set machine.precision=fp32.",
        )
