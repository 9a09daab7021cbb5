"""One process, CPU or one GPU: the default backend, and the reference for every other."""

from __future__ import annotations

from dataclasses import dataclass

from assent.backends.local.learner import LocalLearner
from assent.backends.local.sampler import LocalSampler
from assent.model.roles import LanguageRole
from assent.ports.learning import LearnerSettings, Roles
from assent.text.template import ChatTemplate


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """`Backend` in this process: learner and sampler share the weights."""

    def learner(self, roles: Roles, settings: LearnerSettings = LearnerSettings(), *, seed: int = 0) -> LocalLearner:
        """A learner of these roles."""
        return LocalLearner(roles, settings, seed=seed)

    def sampler(self, role: LanguageRole, template: ChatTemplate, *, rollouts: bool = False) -> LocalSampler:
        """A sampler that writes with a role; for `rollouts` it keeps the hidden states that tokens were drawn from."""
        return LocalSampler(role, template, keep_states=rollouts)
