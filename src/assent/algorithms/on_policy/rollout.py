"""Rollout: the policy writes `n` completions of each prompt. Text becomes tokens once, in the sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assent.data.order import epoch_order
from assent.metrics import Metrics
from assent.ports.sampling import Progress, Sampler, SamplingParams, silent
from assent.seeds import derive
from assent.types import Completion, Conversation, Group, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What an observer sees of an iteration: prompts, completions, and their raw rewards, one beside the other."""

    iteration: int
    prompts: tuple[Conversation, ...]
    completions: tuple[Completion, ...]
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Who hears of a run: of every rollout (and may add to its row of metrics), and of what people should know.

    `note` is told how far an iteration is. The `held_out` prompts are those whose reward is watched (evaluate_every).
    """

    held_out: tuple[Conversation, ...] = ()
    rollout: Callable[[Rollout], Metrics] = lambda rollout: {}
    say: Callable[[str], None] = lambda text: None
    note: Callable[[str], None] = lambda text: None


def rollout(
    sampler: Sampler, prompts: Sequence[Conversation], n: int, *, sampling: SamplingParams, seed: int,
    progress: Progress = silent,
) -> list[Group]:  # fmt: skip
    """`n` episodes of each prompt; a completion is an episode of one turn. `progress` may raise to end the work."""
    turns = sampler.sample(prompts, sampling=sampling, seed=seed, n=n, progress=progress)
    return [
        Group(
            prompt=prompt, trajectories=tuple(Trajectory(prompt=prompt, turns=(turn,)) for turn in turns[at : at + n])
        )
        for prompt, at in zip(prompts, range(0, len(turns), n), strict=True)
    ]


def prompts_of(prompts: Sequence[Conversation], iteration: int, *, size: int, seed: int) -> list[Conversation]:
    """The prompts of an iteration: epochs over all prompts, each in its own order; a pure function of the seed."""
    places = [divmod(position, len(prompts)) for position in range(iteration * size, (iteration + 1) * size)]
    epochs = {epoch for epoch, _ in places}
    orders = {epoch: epoch_order(len(prompts), seed=derive(seed, "prompts"), epoch=epoch) for epoch in epochs}
    return [prompts[int(orders[epoch][place])] for epoch, place in places]
