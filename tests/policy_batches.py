"""Samples of a rollout with given columns, and what a method of the table makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.on_policy.experience import Experience, Sample
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.algorithms.on_policy.update import OnPolicyMethod, weighted
from assent.ports.learning import Outputs
from assent.text.template import Encoded


def method_of(name: str, **settings: object) -> tuple[OnPolicyMethod, OnPolicySettings]:
    """A method of the table and its settings."""
    return load_named(METHODS[name].algorithm), load_named(METHODS[name].settings)(**settings)


def experience_of(lengths: Sequence[int], columns: Mapping[str, Tensor], group: int = 1) -> Experience:
    """Samples of so many tokens each, `group` of each prompt, with columns (N)."""
    tokens = [Encoded(ids=(1,) * (length + 1), assistant_mask=(False,) + (True,) * length) for length in lengths]
    samples = [Sample(tokens=one, group=place // group, columns={}) for place, one in enumerate(tokens)]
    return Experience(samples=tuple(samples)).with_columns(columns)


def loss_of(name: str, experience: Experience, outputs: Mapping[str, Tensor], **settings: object) -> Tensor:
    """The loss of an optimiser step that is one micro-batch; `outputs` are (N) of what is learned from."""
    method, chosen = method_of(name, **settings)
    samples = weighted(experience.samples, method.normalisation(chosen), max_tokens=chosen.max_tokens)
    learned, kl = method.learned(samples, chosen), KLShaping.of(chosen)
    return method.loss(Outputs(columns=outputs), learned, method.count(learned), settings=chosen, kl=kl).loss


def advantages_of(name: str, experience: Experience, reward_N: Tensor, **settings: object) -> Tensor:
    """Advantages (N) as the method's estimator makes them, not yet white."""
    method, chosen = method_of(name, **settings)
    return method.advantages(experience, reward_N, chosen)["advantage"]


def drawn(count: int, seed: int, spread: float = 1.0) -> Tensor:
    """Random numbers in float64."""
    return spread * torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
