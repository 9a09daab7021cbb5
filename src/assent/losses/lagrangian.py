"""Most reward under a budget of cost: the Lagrange multiplier, and advantages under it.

    max over pi, min over lambda >= 0    E[r] - lambda (E[c] - budget)

    A           = (A_r - lambda A_c) / (1 + lambda)                       PPO-Lagrangian, Ray et al. 2019
    log lambda <- log lambda + rate lambda (mean c - budget)              Safe RLHF, Dai et al. 2024 (arXiv 2310.12773)

The second is a step of gradient ascent in log lambda, which keeps lambda positive. It is proportional to the violation;
Adam on a single number would move by its learning rate whatever the violation.

Shapes: N tokens of a rollout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

LARGEST = 100.0  # the reward weighs less than a hundredth from there on


@dataclass(frozen=True, slots=True, kw_only=True)
class LagrangeMultiplier:
    """What a unit of cost above the `budget` takes from the reward; `log_value` is what is learned."""

    log_value: float
    budget: float
    learning_rate: float

    @property
    def value(self) -> float:
        """The multiplier itself."""
        return math.exp(self.log_value)

    def updated(self, cost: float) -> LagrangeMultiplier:
        """After completions whose mean cost was `cost`."""
        step = self.learning_rate * self.value * (cost - self.budget)
        return replace(self, log_value=min(self.log_value + step, math.log(LARGEST)))


@torch.no_grad()
def advantage_under_budget(advantage_N: Tensor, cost_advantage_N: Tensor, multiplier: float) -> Tensor:
    """The advantage of the Lagrangian, divided by 1 + lambda so that its scale stays that of one advantage."""
    return (advantage_N - multiplier * cost_advantage_N) / (1 + multiplier)
