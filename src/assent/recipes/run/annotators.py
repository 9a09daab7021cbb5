"""A reward model as one annotator's, or as that of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from assent.algorithms.reward import RewardSettings
from assent.errors import ConfigError
from assent.evals.reward_quality import ScoredPairs, pooled_pairs
from assent.model.roles import ScalarRole
from assent.recipes.run.models import RewardModel
from assent.recipes.run.progress import Display
from assent.recipes.training.prepare import score_judged


def for_annotator(reward: RewardModel, annotator: str | None, display: Display) -> RewardModel:
    """The reward model with the head of an annotator, or the mean head of several (names with commas between them).

    It shares its trunk with the one that is given. Of whom nothing is known, the head is the population's, and that is
    said. Raises ConfigError for a model that knows no annotators.
    """
    if annotator is None:
        return reward
    people = reward.role.people
    if people is None:
        now = "Train it with --set personal_rank=N on labels that name their annotators, or leave annotator out."
        raise ConfigError("this reward model knows no annotators", where=reward.path, now=now)
    names = [name.strip() for name in annotator.split(",")]
    if strangers := [name for name in names if name not in people.names]:
        told = ", ".join(strangers)
        display.say(f"{reward.path} has no labels of {told}: the head of the population is used")
    return replace(_with_head(reward, people.shift(names)), annotator=annotator)


def scored_by_own_heads(reward: RewardModel, judged: Sequence[Any], settings: RewardSettings) -> ScoredPairs | None:
    """The judgements of every known annotator, scored by the annotator's own head; None where there are none."""
    people, theirs = reward.role.people, dict[str, list[Any]]()
    for one in judged:
        who = one.provenance.who
        if people is not None and who in people.names:
            theirs.setdefault(who, []).append(one)
    parts = [
        score_judged(_with_head(reward, people.shift([who])), mine, settings).pairs
        for who, mine in theirs.items()
        if people is not None
    ]
    return pooled_pairs(parts) if parts else None


def _with_head(reward: RewardModel, shift_D: Tensor) -> RewardModel:
    role = reward.role
    head = nn.Linear(role.head.in_features, 1, bias=role.head.bias is not None)
    with torch.no_grad():
        head.load_state_dict(role.head.state_dict())
        head.weight += shift_D.to(head.weight)
    own = ScalarRole(role.body, head, role.adapter)
    own.frozen = role.frozen
    return replace(reward, role=own)
