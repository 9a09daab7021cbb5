"""Roles of a body. One base can carry several (adapter on, adapter off), or each role has its own body.

Legend: N tokens, M predicted positions, B sequences, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from assent.errors import ConfigError
from assent.model.action_values import ActionValues
from assent.model.adapters import drops_inputs
from assent.model.body import Body
from assent.model.flat import FlatBatch
from assent.model.language_head import LanguageHead
from assent.model.personal_heads import PersonalHeads
from assent.seeds import derive

ROWS_OF_LOGITS = 64  # at a time: more would be read faster and take more memory


class LanguageRole:
    """Policy or reference: a body with its language head. `adapter` None means all adapters off (or none there).

    `version` counts how often a learner has published these weights. With `action_values`, logits are shifted by them.
    """

    def __init__(self, body: Body, adapter: str | None = None, action_values: ActionValues | None = None) -> None:
        self.body, self.adapter, self.version, self.action_values = body, adapter, 0, action_values

    @property
    def head(self) -> LanguageHead:
        """The head as it is now, the adapter on it included."""
        return LanguageHead.of(self.body.model, self.adapter)

    @property
    def drops_at_head(self) -> bool:
        """Whether the adapter on the head has dropout of its own, which `head` leaves out."""
        return drops_inputs(self.body.model.get_output_embeddings(), self.adapter)

    def hidden(self, batch: FlatBatch) -> Tensor:
        """Hidden states (M, H) at the predicted positions."""
        return self.body.hidden(batch, batch.predict_M, adapter=self.adapter)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What training this role changes."""
        values = {} if self.action_values is None else self.action_values.trained()
        own = {f"action_values.{name}": parameter for name, parameter in values.items()}
        return {**self.body.adapter_parameters(self.adapter), **own}

    def learn_action_values(self, *, beta: float, target_step: float, seed: int) -> None:
        """Train action values from here on: those that there are, or else fresh ones."""
        if self.action_values is None:
            fresh = ActionValues(self.body.hidden_size, self.head.weight_VH.shape[0], seed=seed)
            self.action_values = fresh.to(self.body.device)
        self.action_values.learn(beta=beta, target_step=target_step)

    def load_action_values(self, folder: str) -> None:
        """Take the action values of a model folder, if it has any. Raises ConfigError."""
        found = ActionValues.load(folder, self.body.hidden_size, self.head.weight_VH.shape[0])
        self.action_values = found and found.to(self.body.device)

    def shifted(self, logits_BV: Tensor, hidden_BH: Tensor) -> Tensor:
        """The logits that this role writes with, from those of its head."""
        return logits_BV if self.action_values is None else logits_BV + self.action_values.shift(hidden_BH)

    @torch.no_grad()
    def written_logp(self, hidden_MH: Tensor, target_M: Tensor) -> Tensor:
        """The log-probability (M) with which this role writes the tokens `target_M`, in chunks."""
        head = self.head
        parts = zip(torch.split(hidden_MH, ROWS_OF_LOGITS), torch.split(target_M, ROWS_OF_LOGITS), strict=True)
        logps = [
            self.shifted(head.logits(rows), rows).log_softmax(-1).gather(1, target[:, None]) for rows, target in parts
        ]
        return torch.cat(logps)[:, 0] if logps else hidden_MH.new_zeros(0)

    def prepared(self) -> LanguageRole:
        """This role for writing, with weights as they are now: bf16 casts them once and not in every step."""
        if self.body.precision == "fp32":
            return self
        body = self.body.prepared(self.adapter)
        return LanguageRole(body, self.adapter if body.has_adapters else None, self.action_values)


class ScalarRole:
    """Reward model, classifier or critic: a body with a linear head on single hidden states.

    A reward model reads what `transformers` reads of a sequence: the last token that is not the padding token of its
    configuration (an encoder its pooled first one); a critic reads every predicted position. Where the trunk is
    `frozen`, only the head is this role's own. `people` are the annotators whose own heads are known.
    """

    def __init__(self, body: Body, head: nn.Linear, adapter: str | None = None) -> None:
        self.body, self.head, self.adapter, self.frozen = body, head.to(body.device), adapter, False
        self.people: PersonalHeads | None = None

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
            return self.body.hidden(batch, self._read_places(batch), adapter=self.adapter)
        lengths_B = torch.tensor(batch.lengths, device=batch.last_B.device)
        first_BH = self.body.hidden(batch, batch.last_B - lengths_B + 1, adapter=self.adapter)
        with self.body.wearing(self.adapter), self.body.autocast():
            pooled_BH: Tensor = self.body.model.base_model.pooler(first_BH[:, None])
        return pooled_BH

    @property
    def _pad_id(self) -> int | None:
        value = self.body.model.config.get_text_config().pad_token_id
        return None if value is None else int(value)

    def read_part(self, sequence: Sequence[int]) -> Sequence[int]:
        """A sequence up to the token that the head reads."""
        end = len(sequence)
        while end > 1 and sequence[end - 1] == self._pad_id:
            end -= 1
        return sequence[:end]

    def _read_places(self, batch: FlatBatch) -> Tensor:
        """Where the head reads each sequence of a flat batch; trees are grown of the parts that are read."""
        if self._pad_id is None or batch.ends_N is not None:
            return batch.last_B
        lengths_B = torch.tensor(batch.lengths, device=batch.last_B.device)
        first_B, read_B = batch.last_B - lengths_B + 1, batch.last_B
        while (padded_B := (batch.ids_N[read_B] == self._pad_id) & (read_B > first_B)).any():
            read_B = read_B - padded_B.long()
        return read_B

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
        named = self.body.adapter_parameters(self.adapter) if trunk and not self.frozen else {}
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
    now = "Use a decoder (head `score`) or an encoder of the BERT family (pooler and head `classifier`)."
    raise ConfigError("this classifier's head is not one linear layer", where=where, now=now)


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
