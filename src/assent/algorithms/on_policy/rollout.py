"""Rollout: the policy plays `n` episodes of each prompt. Text becomes tokens once, in the sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from assent.data.order import epoch_order
from assent.environments.acting import Actor
from assent.metrics import Metrics
from assent.ports.sampling import Progress, silent
from assent.seeds import derive
from assent.types import Completion, Conversation, Group, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What an observer sees of an iteration: episodes and their raw rewards, one beside the other."""

    iteration: int
    episodes: tuple[Trajectory, ...]
    rewards: tuple[float, ...]

    @property
    def prompts(self) -> list[Conversation]:
        """What was answered last in each episode."""
        return [one.prompt for one in self.episodes]

    @property
    def completions(self) -> list[Completion]:
        """How it was answered."""
        return [one.completion for one in self.episodes]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutAnswers:
    """What an observer sees of the held-out prompts after an iteration: episodes and raw rewards, in their order.

    `kl` (nats a completion) and `entropy` (nats a token) are those of the iteration's rollouts, 0 and None before any.
    """

    iteration: int
    episodes: tuple[Trajectory, ...]
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
    """Groups whose trajectories bear the reward that is maximised, the raw rewards, and the raw scores by name.

    Episodes that failed are not among them: `failed` says why each did.
    """

    groups: tuple[Group, ...]
    rewards: tuple[float, ...]
    scores: Mapping[str, Sequence[float]]
    failed: tuple[str, ...] = ()

    @property
    def episodes(self) -> list[Trajectory]:
        """All of them, group by group."""
        return [trajectory for group in self.groups for trajectory in group.trajectories]

    @staticmethod
    def joined(parts: Sequence[Scored]) -> Scored:
        """Several rollouts as one."""
        return Scored(
            groups=tuple(group for part in parts for group in part.groups),
            rewards=tuple(reward for part in parts for reward in part.rewards),
            scores={name: [one for part in parts for one in part.scores[name]] for name in parts[0].scores},
            failed=tuple(problem for part in parts for problem in part.failed),
        )


def rollout(
    actor: Actor, prompts: Sequence[Conversation], n: int, *, seed: int, progress: Progress = silent
) -> list[Group]:
    """`n` episodes of each prompt; a completion is an episode of one turn. `progress` may raise to end the work."""
    episodes = actor.play(prompts, n=n, seed=seed, progress=progress)
    return [
        Group(prompt=prompt, trajectories=tuple(episodes[at : at + n]))
        for prompt, at in zip(prompts, range(0, len(episodes), n), strict=True)
    ]


def rewarded(group: Group, rewards: Iterator[float], costs: Iterator[float] | None = None) -> Group:
    """The group without its failed episodes, the others with the next rewards and costs."""
    trajectories = (
        replace(one, reward=next(rewards), cost=None if costs is None else next(costs))
        for one in group.trajectories
        if not one.failed
    )
    return replace(group, trajectories=tuple(trajectories))


def prompts_of(prompts: Sequence[Conversation], iteration: int, *, size: int, seed: int) -> list[Conversation]:
    """The prompts of an iteration: epochs over all prompts, each in its own order; a pure function of the seed."""
    places = [divmod(position, len(prompts)) for position in range(iteration * size, (iteration + 1) * size)]
    epochs = {epoch for epoch, _ in places}
    orders = {epoch: epoch_order(len(prompts), seed=derive(seed, "prompts"), epoch=epoch) for epoch in epochs}
    return [prompts[int(orders[epoch][place])] for epoch, place in places]
