"""AdamW over parameters that have names, and its state by these names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from assent.ports.learning import LearnerSettings

_MOMENTS = 2  # numbers that AdamW keeps of every one that it trains


class Optimiser:
    """Clips the gradients of `parameters`, steps, and forgets them; the learning rate is given to every step."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: LearnerSettings) -> None:
        self._parameters, self._most_norm = parameters, settings.max_gradient_norm
        matrices = [p for p in parameters.values() if p.ndim >= 2]
        vectors = [p for p in parameters.values() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        betas = (settings.beta1, settings.beta2)
        self._adamw = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=0.0, betas=betas, eps=settings.epsilon, fused=True
        )

    @property
    def weight_bytes(self) -> int:
        """Of what is trained; a gradient takes as many."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self._parameters.values())

    @property
    def state_bytes(self) -> int:
        """Of what `state` gives once there were steps: weights and moments."""
        return (1 + _MOMENTS) * self.weight_bytes

    def clip(self) -> float:
        """Scale the gradients down to the largest norm; gives the norm before."""
        return nn.utils.clip_grad_norm_(self._parameters.values(), self._most_norm).item()

    def step(self, learning_rate: float) -> None:
        """One step with the gradients as they are."""
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()

    def clear(self) -> None:
        """Forget the gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Weights, moments and step counts by parameter name."""
        moments = {name: dict(self._adamw.state.get(p, {})) for name, p in self._parameters.items()}
        return {"weights": {name: p.detach() for name, p in self._parameters.items()}, "moments": moments}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state`, bit for bit."""
        for name, parameter in self._parameters.items():
            parameter.copy_(state["weights"][name])
            self._adamw.state.pop(parameter, None)
            if state["moments"][name]:  # the fused optimiser keeps its step count beside the weights
                self._adamw.state[parameter] = {
                    key: value.to(parameter.device, copy=True) for key, value in state["moments"][name].items()
                }
        self.clear()
