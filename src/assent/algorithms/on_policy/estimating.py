"""What on-policy training will take: writing as it was measured on the starting model, reading as it is probed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate, cycle, islice

from assent.algorithms.estimate import Estimate, tokens_of
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.ports.learning import Learner, Need
from assent.text.template import Encoded

_SCORED_TOKENS = 1024


def estimate_iterations(
    learner: Learner, asked: Sequence[tuple[int, ...]], settings: OnPolicySettings, training: Need, scoring: Need, *,
    seconds_per_completion: float, tokens_per_completion: float,
) -> Estimate:  # fmt: skip
    """Of all iterations, where each asks prompts such as these and the completions are as they are at the start."""
    written = max(1, round(tokens_per_completion))
    episodes = [
        Encoded(ids=(*ids, *islice(cycle(ids), written)), assistant_mask=(False,) * len(ids) + (True,) * written)
        for ids in asked
        for _ in range(settings.samples_per_prompt)
    ]
    cost = learner.probe(episodes, training)
    some = episodes[: max(1, sum(total <= _SCORED_TOKENS for total in accumulate(map(len, episodes))))]
    started = time.perf_counter()
    learner.score(some, scoring)
    scored = (time.perf_counter() - started) / tokens_of(some)
    reading = tokens_of(episodes) * (scored + settings.epochs * cost.seconds_per_token)
    return Estimate(
        seconds=settings.iterations * (len(episodes) * seconds_per_completion + reading),
        memory_bytes=cost.memory_bytes + cost.snapshot_bytes,
    )
