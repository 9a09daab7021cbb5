"""Rollout: the policy writes `n` completions of each prompt. Text becomes tokens once, in the sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from assent.data.order import epoch_order
from assent.metrics import Metrics
from assent.ports.sampling import Progress, Sampler, SamplingParams, silent
from assent.seeds import derive
from assent.types import Completion, Conversation, Group, Trajectory, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What an observer sees of an iteration: prompts, completions, and their raw rewards, one beside the other."""

    iteration: int
    prompts: tuple[Conversation, ...]
    completions: tuple[Completion, ...]
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutAnswers:
    """What an observer sees of the held-out prompts after an iteration: turns and raw rewards, in the prompts' order.

    `kl` (nats a completion) and `entropy` (nats a token) are those of the iteration's rollouts, 0 and None before any.
    """

    iteration: int
    turns: tuple[Turn, ...]
    rewards: tuple[float, ...]
    kl: float = 0.0
    entropy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Who hears of a run: of rollouts and held-out answers (and may add to the row), and of what people should know.

    `note` is told how far an iteration is. The `held_out` prompts are those whose reward is watched (evaluate_every).
    """

    held_out: tuple[Conversation, ...] = ()
    rollout: Callable[[Rollout], Metrics] = lambda rollout: {}
    evaluated: Callable[[HeldOutAnswers], Metrics] = lambda answers: {}
    say: Callable[[str], None] = lambda text: None
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Groups whose trajectories bear the reward that is maximised, the raw rewards, and the raw scores by name."""

    groups: tuple[Group, ...]
    rewards: tuple[float, ...]
    scores: Mapping[str, Sequence[float]]

    @property
    def turns(self) -> list[Turn]:
        """The last turn of every episode."""
        return [trajectory.turns[-1] for group in self.groups for trajectory in group.trajectories]

    @staticmethod
    def joined(parts: Sequence[Scored]) -> Scored:
        """Several rollouts as one."""
        return Scored(
            groups=tuple(group for part in parts for group in part.groups),
            rewards=tuple(reward for part in parts for reward in part.rewards),
            scores={name: [one for part in parts for one in part.scores[name]] for name in parts[0].scores},
        )


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


def rewarded(group: Group, rewards: Iterator[float], costs: Iterator[float] | None = None) -> Group:
    """The group with the next rewards and costs."""
    trajectories = (
        replace(one, reward=next(rewards), cost=None if costs is None else next(costs)) for one in group.trajectories
    )
    return replace(group, trajectories=tuple(trajectories))


def prompts_of(prompts: Sequence[Conversation], iteration: int, *, size: int, seed: int) -> list[Conversation]:
    """The prompts of an iteration: epochs over all prompts, each in its own order; a pure function of the seed."""
    places = [divmod(position, len(prompts)) for position in range(iteration * size, (iteration + 1) * size)]
    epochs = {epoch for epoch, _ in places}
    orders = {epoch: epoch_order(len(prompts), seed=derive(seed, "prompts"), epoch=epoch) for epoch in epochs}
    return [prompts[int(orders[epoch][place])] for epoch, place in places]
