"""The local learner: one process, CPU or one GPU. The reference for every other learner."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assent.errors import ConfigError
from assent.losses.chunked_head import LogitShape
from assent.losses.token_statistics import ReferenceHead, TokenStatistics, token_statistics
from assent.model.body import LanguageHead
from assent.model.flat import FlatBatch
from assent.model.roles import LanguageRole, ScalarRole
from assent.model.state import capture_rng, restore_rng
from assent.ports.learning import Loss, LossResult, Need, Outputs, StepReport
from assent.seeds import derive


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """AdamW (Loshchilov & Hutter 2019); weight decay on matrices only; gradients clipped to `max_gradient_norm`."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0


class LocalLearner:
    """Trains the roles it is given: a policy, a policy with a critic, or a scalar role (reward model, classifier).

    With `shared_trunk` the critic is only a head: policy and value come from one pass through the policy's trunk.
    """

    def __init__(
        self,
        *,
        policy: LanguageRole | None = None,
        critic: ScalarRole | None = None,
        scalar: ScalarRole | None = None,
        reference: LanguageRole | None = None,
        shared_trunk: bool = False,
        dropout: bool = False,
        optimizer: OptimizerSettings | None = None,
        seed: int = 0,
    ) -> None:
        if dropout and policy is not None and policy.drops_at_head:
            now = "Use --set dropout=off, or leave the language head out of lora.targets."
            raise ConfigError("dropout of an adapter on the language head is not supported", now=now)
        self.policy, self.critic, self.scalar, self.reference = policy, critic, scalar, reference
        self.shared_trunk, self.dropout = shared_trunk, dropout
        self.settings = optimizer or OptimizerSettings()
        self.parameters = self._trainable()
        self._optimizer = _adamw(self.parameters, self.settings)
        self._broken = False
        self._seed, self._passes = seed, 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.parameters.values())).device

    def _trainable(self) -> dict[str, nn.Parameter]:
        named: dict[str, nn.Parameter] = {}
        if self.policy is not None:
            named |= {f"policy.{name}": p for name, p in self.policy.parameters().items()}
        if self.critic is not None:
            named |= {f"critic.{name}": p for name, p in self.critic.parameters(trunk=not self.shared_trunk).items()}
        if self.scalar is not None:
            named |= {f"scalar.{name}": p for name, p in self.scalar.parameters().items()}
        for parameter in named.values():
            parameter.requires_grad_(True)
        return named

    @torch.no_grad()
    def score(self, batch: FlatBatch, need: Need, hidden_MH: Tensor | None = None) -> Outputs:
        """Forward without gradient, dropout off; with `hidden_MH` the policy's trunk does not run."""
        self._set_dropout(on=False)
        return self._forward(batch.to(self.device), need, hidden_MH)

    def forward_backward(self, batch: FlatBatch, need: Need, loss: Loss) -> LossResult:
        """Add the gradient of `loss`; a non-finite loss adds nothing and makes the next `step` skip."""
        self._set_dropout(on=self.dropout)
        with self._dropout_randomness():
            result = loss(self._forward(batch.to(self.device), need))
        if math.isfinite(result.loss.item()):
            result.loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._broken = True
        return result

    def step(self, learning_rate: float) -> StepReport:
        """Clip, update, clear; a non-finite loss or gradient changes nothing."""
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_gradient_norm).item()
        skipped = self._broken or not math.isfinite(norm)
        if not skipped:
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._broken = False
        return StepReport(gradient_norm=norm, skipped=skipped)

    def publish(self) -> None:
        """Nothing to do: the local sampler reads the same weights, and samples only between steps."""

    def state(self) -> dict[str, Any]:
        """Weights, the optimiser's moments and step counts by parameter name, and the random generators."""
        moments = {name: dict(self._optimizer.state.get(p, {})) for name, p in self.parameters.items()}
        weights = {name: p.detach() for name, p in self.parameters.items()}
        return {"weights": weights, "moments": moments, "rng": capture_rng(), "passes": self._passes}

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of `state`, bit for bit."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["weights"][name])
                self._optimizer.state.pop(parameter, None)
                if state["moments"][name]:  # the fused optimiser keeps its step count beside the weights
                    self._optimizer.state[parameter] = {
                        key: value.to(parameter.device, copy=True) for key, value in state["moments"][name].items()
                    }
        self._optimizer.zero_grad(set_to_none=True)
        self._broken, self._passes = False, state["passes"]
        restore_rng(state["rng"])

    @contextmanager
    def _dropout_randomness(self) -> Iterator[None]:
        """Dropout draws from a seed of its own for every pass, and leaves the global generators as they were."""
        if not self.dropout:
            yield
            return
        self._passes += 1
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive(self._seed, "dropout", self._passes))
            yield

    def _set_dropout(self, *, on: bool) -> None:
        for role in (self.policy, self.critic, self.scalar):
            if role is not None:
                role.body.model.train(on)

    def _forward(self, batch: FlatBatch, need: Need, hidden_MH: Tensor | None = None) -> Outputs:
        if need.logits:
            assert self.scalar is not None
            return Outputs(logits_BC=self.scalar.logits(batch))
        assert self.policy is not None
        hidden_MH = self.policy.hidden(batch) if hidden_MH is None else hidden_MH.to(self.device)
        value_M = None
        if need.value:
            assert self.critic is not None
            value_M = self.critic.values_at(hidden_MH) if self.shared_trunk else self.critic.values(batch)
        if not need.logp:
            return Outputs(value_M=value_M)
        return self._language(batch, need, hidden_MH, value_M)

    def _language(self, batch: FlatBatch, need: Need, hidden_MH: Tensor, value_M: Tensor | None) -> Outputs:
        assert self.policy is not None
        head, reference, reference_logp_M = self.policy.head, None, None
        if need.kl or need.reference_logp:
            assert self.reference is not None, "this loss needs a reference"
            reference_MH, away = self._reference_hidden(batch), self.reference.head
            if need.reference_logp and not need.kl:
                with torch.no_grad():
                    reference_logp_M = _statistics(reference_MH, away, batch.target_M, need).logp_N
            if need.kl:
                away_VH = away.weight_VH.detach()
                reference = ReferenceHead(
                    hidden_NH=reference_MH, weight_VH=away_VH, bias_V=away.bias_V, top_k=need.kl_top_k
                )
        with self.policy.body.autocast():
            found = _statistics(hidden_MH, head, batch.target_M, need, reference, entropy=need.entropy)
        return Outputs(
            logp_M=found.logp_N,
            entropy_M=found.entropy_N,
            kl_M=found.kl_N,
            reference_logp_M=found.reference_logp_N if need.kl else reference_logp_M,
            value_M=value_M,
        )

    @torch.no_grad()
    def _reference_hidden(self, batch: FlatBatch) -> Tensor:
        assert self.reference is not None, "this loss needs a reference"
        self.reference.body.model.eval()
        return self.reference.hidden(batch)


def _statistics(
    hidden_MH: Tensor, head: LanguageHead, target_M: Tensor, need: Need,
    reference: ReferenceHead | None = None, *, entropy: bool = False,
) -> TokenStatistics:  # fmt: skip
    shape = LogitShape(temperature=need.temperature, softcap=head.softcap, logit_scale=head.scale)
    return token_statistics(
        hidden_MH, head.weight_VH, target_M, bias_V=head.bias_V, reference=reference, entropy=entropy, shape=shape
    )


def _adamw(parameters: Mapping[str, nn.Parameter], settings: OptimizerSettings) -> torch.optim.AdamW:
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=betas, eps=settings.epsilon, fused=True)
