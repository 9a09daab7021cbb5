"""A cost under a budget: the column that its estimator reads, and the multiplier of an iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from assent.algorithms.on_policy.experience import Experience
from assent.errors import ConfigError
from assent.losses.lagrangian import LagrangeMultiplier
from assent.metrics import Metrics
from assent.types import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeted:
    """An experience with the column `cost` (N; a completion's cost at its last token), and what it makes of lambda."""

    experience: Experience
    multiplier: LagrangeMultiplier | None = None
    row: Metrics


def budgeted(experience: Experience, groups: Sequence[Group], multiplier: LagrangeMultiplier | None) -> Budgeted:
    """The multiplier after these completions; without one, the experience as it is."""
    if multiplier is None:
        return Budgeted(experience=experience, row={})
    cost_B = [trajectory.cost or 0.0 for group in groups for trajectory in group.trajectories]
    mean = sum(cost_B) / len(cost_B)
    return Budgeted(
        experience=experience.with_columns({"cost": experience.at_ends(torch.tensor(cost_B))}),
        multiplier=(after := multiplier.updated(mean)), row={"cost": mean, "multiplier": after.value},
    )  # fmt: skip


def check_cost(multiplier: LagrangeMultiplier | None, *, given: bool) -> None:
    """Refuse a budget without a cost, and a cost without a budget. Raises ConfigError."""
    if multiplier is not None and not given:
        raise ConfigError("no cost was given", now="Name a cost model with --cost (in Python cost=...).")
    if multiplier is None and given:
        raise ConfigError("this method has no budget for a cost", now="Leave the cost out.")
