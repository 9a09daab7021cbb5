"""A reward model as one annotator's, or as that of a group."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from assent.algorithms.reward import placed_pairs
from assent.backends.local.features import MOST_TOKENS
from assent.errors import ConfigError
from assent.evals.reward_quality import ScoredPairs
from assent.interrupts import StopRequest
from assent.model.roles import ScalarRole
from assent.recipes.run.models import RewardModel
from assent.recipes.run.progress import Display
from assent.recipes.training.head_training import read_judged
from assent.recipes.training.prepare import ScoredJudgements


def for_annotator(reward: RewardModel, annotator: str | None, display: Display) -> RewardModel:
    """The reward model with the head of an annotator, or the mean head of several (names with commas between them).

    It shares its trunk with the one that is given. Of whom nothing is known, the head is the population's, and that is
    said. Raises ConfigError for a model that knows no annotators.
    """
    if annotator is None:
        return reward
    if not isinstance(annotator, str):
        now = "Give a name, or several with commas between them."
        raise ConfigError(f"an annotator's name is wanted, got {type(annotator).__name__}", where="annotator", now=now)
    role, people = reward.role, reward.role.people
    if people is None:
        now = "Train it with --set personal_rank=N on labels that name their annotators, or leave annotator out."
        raise ConfigError("this reward model knows no annotators", where=reward.path, now=now)
    names = [name.strip() for name in annotator.split(",")]
    if strangers := [name for name in names if name not in people.names]:
        told = ", ".join(strangers)
        display.say(f"{reward.path} has no labels of {told}: the head of the population is used")
    head = nn.Linear(role.head.in_features, 1, bias=role.head.bias is not None)
    with torch.no_grad():
        head.load_state_dict(role.head.state_dict())
        head.weight += people.shift(names).to(head.weight)
    own = ScalarRole(role.body, head, role.adapter)
    own.frozen = role.frozen
    return replace(reward, role=own, annotator=annotator)


def scored_by_own_heads(reward: RewardModel, scored: ScoredJudgements, display: Display) -> ScoredPairs | None:
    """The pairs of every known annotator by the annotator's own head; None where there are none."""
    role, people = reward.role, reward.role.people
    if people is None:
        return None
    judged = [one for one in scored.judgements if any(pair.annotator in people.names for pair in one.pairs)]
    if not judged:
        return None
    feature_ND = torch.from_numpy(read_judged(role, judged, MOST_TOKENS, display, StopRequest()))
    common_D = role.head.weight.detach()[0].double().cpu()
    names = {pair.annotator for one in judged for pair in one.pairs} & set(people.names)
    rewards = {name: (feature_ND @ (common_D + people.shift([name]))).tolist() for name in names}
    places = [group for group, one in enumerate(judged) for _ in one.pairs]
    known = [
        (pair, group) for pair, group in zip(placed_pairs(judged), places, strict=True) if pair.annotator in rewards
    ]
    return ScoredPairs(
        chosen=[rewards[pair.annotator][pair.better] for pair, _ in known],
        rejected=[rewards[pair.annotator][pair.worse] for pair, _ in known],
        probability=[pair.probability for pair, _ in known],
        groups=[group for _, group in known],
    )
