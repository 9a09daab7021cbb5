"""The roles beside a policy: the reference that it is held near, and the critic that learns its values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from assent.algorithms.on_policy.reward_signal import RewardScale, RewardSum
from assent.backends.local.sampler import RewardScorer
from assent.model.adapters import changes_nothing
from assent.model.body import Body
from assent.model.roles import LanguageRole, ScalarRole, fresh_head
from assent.ports.sampling import Scorer
from assent.recipes.run.models import LanguageModel, RewardModel

REFERENCE = "reference"


def reference_of(model: LanguageModel) -> LanguageRole:
    """The frozen reference: the policy as it is now. An adapter's base is shared; full weights are copied."""
    body, adapter = model.role.body, model.role.adapter
    if adapter is None:
        copied = _copied(body)
        copied.model.requires_grad_(False)
        return LanguageRole(copied)
    if changes_nothing(body.adapter_parameters(adapter)):
        return LanguageRole(body, None)
    body.copy_adapter(adapter, REFERENCE)
    return LanguageRole(body, REFERENCE)


def critic_of(
    model: LanguageModel,
    reward: RewardModel | RewardScorer | None,
    *,
    name: str,
    shared_trunk: bool,
    seed: int,
    gain: float = 1.0,
    offset: float = 0.0,
) -> ScalarRole:
    """A critic: a head on the policy's trunk, or a network of its own that starts from the reward model.

    A critic of its own can start from the reward model only where both read the same tokens, and says then
    `gain` score + `offset`; otherwise, and without a reward model, it starts from the policy's weights with a fresh
    head. If the policy or the reward model is an adapter, so is the critic, on the same frozen base.
    """
    body, adapter = model.role.body, model.role.adapter
    head = fresh_head(body.hidden_size, seed=seed, name=name)
    if shared_trunk:
        with torch.no_grad():
            head.weight.zero_()
        return ScalarRole(body, head, adapter)
    if reward is not None and _reads_alike(model, reward):
        return _critic_of_reward(model, reward, name, gain, offset)
    if adapter is None:
        return ScalarRole(_copied(body), head)
    if changes_nothing(body.adapter_parameters(adapter)):
        body.add_adapter(name, body.lora_config(adapter))
    else:
        body.copy_adapter(adapter, name)
    return ScalarRole(body, head, name)


def _copied(body: Body) -> Body:
    return Body(copy.deepcopy(body.model), device=body.device, precision=body.precision)


def _reads_alike(model: LanguageModel, reward: RewardModel | RewardScorer) -> bool:
    """Whether a reward model reads the policy's tokens, each with what is before it, and can carry its adapter."""
    source, own = reward.role, model.role
    fits = source.adapter is not None or own.adapter is None or type(source.body.trunk) is type(own.body.trunk)
    tokens = model.template.tokenizer.get_vocab()
    return fits and not source.reads_first_token and tokens == reward.template.tokenizer.get_vocab()


def _critic_of_reward(
    model: LanguageModel, reward: RewardModel | RewardScorer, name: str, gain: float, offset: float
) -> ScalarRole:
    source = reward.role
    head = nn.Linear(source.head.in_features, 1)
    with torch.no_grad():
        head.weight.copy_(source.head.weight[reward.positive : reward.positive + 1] * gain)
        said = 0.0 if source.head.bias is None else source.head.bias[reward.positive].item()
        head.bias.fill_(said * gain + offset)
    if source.adapter is not None:
        source.body.copy_adapter(source.adapter, name)
    elif model.role.adapter is not None:
        source.body.add_adapter(name, model.role.body.lora_config(model.role.adapter))
    else:
        return ScalarRole(copy.deepcopy(source.body), head)
    return ScalarRole(source.body, head, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticStart:
    """What a critic starts from, if there is such a model: `gain` times its score + `offset`."""

    network: RewardScorer | None
    gain: float = 1.0
    offset: float = 0.0

    @staticmethod
    def of(scorers: Sequence[Scorer], gain: float = 1.0, offset: float = 0.0) -> CriticStart:
        """From the only one of some scorers, if that is a model."""
        network = scorers[0] if len(scorers) == 1 and isinstance(scorers[0], RewardScorer) else None
        return CriticStart(network=network, gain=gain, offset=offset)


def critic_starts(scorer: Scorer, scale: RewardScale) -> tuple[CriticStart, CriticStart]:
    """What the critic of the reward starts from, as training takes the reward, and the critic of the cost."""
    if not isinstance(scorer, RewardSum):
        return CriticStart.of([scorer], scale.gain, scale.offset), CriticStart(network=None)
    rewards, costs = ([one for one in scorer.rewards if (one.name == scorer.cost) is cost] for cost in (False, True))
    start = CriticStart.of([one.scorer for one in rewards], scale.gain * rewards[0].weight, scale.offset)
    return start, CriticStart.of([one.scorer for one in costs])
