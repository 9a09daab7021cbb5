"""Dynamic sampling (DAPO, Yu et al. 2025, arXiv 2503.14476): groups that can teach, replaced where they cannot.

All completions of a group with one and the same reward have no advantage over each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assent.algorithms.on_policy.rollout import Scored
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.errors import RunError
from assent.types import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilled:
    """What is learned from, all that was written for it, and how many groups were dropped."""

    groups: tuple[Group, ...]
    written: Scored
    dropped: int


def has_spread(group: Group) -> bool:
    """Whether two completions of a group have different rewards."""
    return len({trajectory.reward for trajectory in group.trajectories}) > 1


def refilled(write: Callable[[int, int], Scored], size: int, *, most: int) -> Refilled:
    """`size` groups, first `write(0, size)`; at most `most` times, those without spread are written anew.

    `write(attempt, count)` writes `count` groups of other prompts. Where the attempts do not suffice, groups without
    spread fill the batch, as they would have without any.
    """
    parts = [write(0, size)]
    for attempt in range(1, most + 1):
        missing = size - sum(has_spread(group) for part in parts for group in part.groups)
        if not missing:
            break
        parts.append(write(attempt, missing))
    written = Scored.joined(parts)
    groups = written.groups if len(parts) == 1 else sorted(written.groups, key=has_spread, reverse=True)[:size]
    return Refilled(groups=tuple(groups), written=written, dropped=len(written.groups) - size)


def comparable(groups: Sequence[Group], settings: OnPolicySettings) -> list[Group]:
    """The groups from which enough episodes are left. Raises RunError if these are too few for the mini-batches."""
    kept = [group for group in groups if len(group.trajectories) >= min(settings.samples_per_prompt, 2)]
    if len(kept) < settings.mini_batches:
        raise RunError(
            f"so many episodes failed that {len(kept)} of {len(groups)} prompts are left for "
            f"{settings.mini_batches} mini-batches", now="Nothing was updated; look at the environment.",
        )  # fmt: skip
    return kept
