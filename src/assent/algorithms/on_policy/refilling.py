"""Dynamic sampling (DAPO, Yu et al. 2025, arXiv 2503.14476): groups that can teach, replaced where they cannot.

All completions of a group with one and the same reward have no advantage over each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assent.algorithms.on_policy.rollout import Scored
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
