"""Roles: what a body plays. One base can carry several (adapter on, adapter off), or each role has a body of its own.

Legend: N tokens, M predicted positions, B sequences, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from assent.errors import ConfigError
from assent.model.body import Body, LanguageHead
from assent.model.flat import FlatBatch
from assent.seeds import derive


class LanguageRole:
    """Policy or reference: a body with its language head. `adapter` None means all adapters off (or none there)."""

    def __init__(self, body: Body, adapter: str | None = None) -> None:
        self.body, self.adapter = body, adapter

    @property
    def head(self) -> LanguageHead:
        return LanguageHead.of(self.body.model)

    def hidden(self, batch: FlatBatch) -> Tensor:
        """Hidden states (M, H) at the predicted positions."""
        return self.body.hidden(batch, batch.predict_M, adapter=self.adapter)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What training this role changes."""
        return self.body.adapter_parameters(self.adapter)


class ScalarRole:
    """Reward model, classifier or critic: a body with a linear head on single hidden states.

    A reward model reads the last token of a sequence (an encoder its pooled first one); a critic every predicted
    position.
    """

    def __init__(self, body: Body, head: nn.Linear, adapter: str | None = None) -> None:
        self.body, self.head, self.adapter = body, head.to(body.device), adapter

    @property
    def reads_first_token(self) -> bool:
        """Encoders of the BERT family pool their first token."""
        return getattr(self.body.model.base_model, "pooler", None) is not None

    def logits(self, batch: FlatBatch) -> Tensor:
        """Head outputs (B, C) of whole sequences."""
        return self._apply(self.features(batch))

    def features(self, batch: FlatBatch) -> Tensor:
        """What the head reads of whole sequences: hidden states (B, H)."""
        if not self.reads_first_token:
            return self.body.hidden(batch, batch.last_B, adapter=self.adapter)
        lengths_B = torch.tensor(batch.lengths, device=batch.last_B.device)
        first_BH = self.body.hidden(batch, batch.last_B - lengths_B + 1, adapter=self.adapter)
        with self.body.wearing(self.adapter), self.body.autocast():
            pooled_BH: Tensor = self.body.model.base_model.pooler(first_BH[:, None])
        return pooled_BH

    def values(self, batch: FlatBatch) -> Tensor:
        """Head output (M) at the predicted positions."""
        return self.values_at(self.body.hidden(batch, batch.predict_M, adapter=self.adapter))

    def values_at(self, hidden_MH: Tensor) -> Tensor:
        """Head output (M) at given hidden states (a trunk shared with the policy)."""
        return self._apply(hidden_MH)[:, 0]

    def _apply(self, hidden: Tensor) -> Tensor:
        """What the head says, in float32 also where the trunk runs in bf16, so that a score keeps its digits."""
        with torch.autocast(self.body.device.type, enabled=False):
            said: Tensor = self.head(hidden.to(self.head.weight.dtype))
        return said.float()

    def parameters(self, *, trunk: bool = True) -> dict[str, nn.Parameter]:
        """What training this role changes; `trunk` False leaves the body alone (a head on a shared trunk)."""
        named = self.body.adapter_parameters(self.adapter) if trunk else {}
        own = {id(parameter) for parameter in named.values()}
        head = {f"head.{name}": p for name, p in self.head.named_parameters() if id(p) not in own}
        return {**named, **head}


def fresh_head(hidden_size: int, *, seed: int, name: str, outputs: int = 1) -> nn.Linear:
    """A linear head without bias, drawn from N(0, 1 / (hidden + 1)) (Stiennon et al. 2020)."""
    generator = torch.Generator().manual_seed(derive(seed, "head", name))
    head = nn.Linear(hidden_size, outputs, bias=False)
    with torch.no_grad():
        head.weight.normal_(0.0, (hidden_size + 1) ** -0.5, generator=generator)
    return head


_HEADS = ("score", "classifier")


def own_head(body: Body, *, where: str) -> nn.Linear:
    """The head of a loaded sequence classifier."""
    for name in _HEADS:
        head = getattr(body.model, name, None)
        if isinstance(head, nn.Linear):
            return head
    raise ConfigError(
        "this classifier's head is not one linear layer",
        where=where,
        now="Use a decoder (head `score`) or an encoder of the BERT family (pooler and head `classifier`).",
    )


def head_name(body: Body) -> str:
    """What a sequence classifier on this trunk calls its head."""
    return next((name for name in _HEADS if hasattr(body.model, name)), _HEADS[0])


def head_of_weights(weights: Mapping[str, Tensor], *, where: str) -> nn.Linear:
    """The head that an adapter folder holds beside its adapter; anything more or less is refused."""
    name = next((name for name in _HEADS if f"{name}.weight" in weights), None)
    if name is None or set(weights) - {f"{name}.weight", f"{name}.bias"}:
        held = ", ".join(sorted(weights)) or "nothing"
        raise ConfigError(f"expected a head (score or classifier) beside the adapter, got {held}", where=where)
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        head.weight.copy_(weight)
        if bias is not None:
            head.bias.copy_(bias)
    return head
