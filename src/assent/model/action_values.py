"""Action values of a language model (ILQL): what each next token is worth, Q(s, a), and the text before it, V(s).

    Q_i(s, .) = W_i relu(A_i h + a_i) + b_i,   i = 1, 2        V(s) = w relu(A h + a) + b
    pi(. | s) = softmax(logits(s) + beta (min_i Q_i(s, .) - V(s)))

h is the hidden state that the language head reads. The Q functions that are learned have slow copies, their targets,
which are written with and saved: target <- target + target_step (learned - target) after every step. V is the same for
every token, so the softmax cancels it. W and b begin at zero, and a policy as it is without values.

Legend: M predicted positions, B rows, H hidden size, D = 2 H, V vocabulary.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import embedding

from assent.errors import ConfigError
from assent.losses.token_statistics import token_statistics
from assent.seeds import derive

FILE = "action_values.safetensors"


class ValueHead(nn.Module):
    """One hidden layer of twice the width, and outputs that begin at zero."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(hidden_size, 2 * hidden_size), nn.Linear(2 * hidden_size, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def features(self, hidden: Tensor) -> Tensor:
        """What the outputs are a linear function of."""
        return self.first(hidden).relu()  # type: ignore[no-any-return]

    def forward(self, hidden: Tensor) -> Tensor:
        """All outputs."""
        return self.last(self.features(hidden))  # type: ignore[no-any-return]

    def at(self, feature_MD: Tensor, target_M: Tensor) -> Tensor:
        """One output of each row (M)."""
        return (feature_MD * embedding(target_M, self.last.weight)).sum(1) + self.last.bias[target_M]


class TwinQ(nn.Module):
    """Two Q functions; the lesser of both is believed (Fujimoto et al. 2018, arXiv 1802.09477)."""

    def __init__(self, hidden_size: int, vocabulary: int) -> None:
        super().__init__()
        self.q1, self.q2 = ValueHead(hidden_size, vocabulary), ValueHead(hidden_size, vocabulary)

    def forward(self, hidden: Tensor) -> Tensor:
        """The lesser Q of every token."""
        return torch.minimum(self.q1(hidden), self.q2(hidden))

    def at(self, hidden_MH: Tensor, target_M: Tensor) -> Tensor:
        """The lesser Q of one token of each row (M)."""
        return torch.minimum(*(q.at(q.features(hidden_MH), target_M) for q in (self.q1, self.q2)))


class ActionValues(nn.Module):
    """Two Q functions and V, to write with; with `learn`, the Q functions become targets of what is `online`."""

    def __init__(self, hidden_size: int, vocabulary: int, *, beta: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "action values"))
            self.target, self.v = TwinQ(hidden_size, vocabulary), ValueHead(hidden_size, 1)
        self.online: TwinQ | None = None
        self.beta, self.target_step = nn.Buffer(torch.tensor(beta)), 0.0

    def learn(self, *, beta: float, target_step: float) -> None:
        """Train from here on, and write with this beta."""
        self.online, self.target_step = copy.deepcopy(self.target).requires_grad_(True), target_step
        self.beta.fill_(beta)
        self.target.requires_grad_(False)

    def trained(self) -> dict[str, nn.Parameter]:
        """What training changes by gradients; nothing before `learn`."""
        named = {} if self.online is None else dict(self.named_parameters())
        return {name: p for name, p in named.items() if not name.startswith("target.")}

    @torch.no_grad()
    def move_targets(self) -> None:
        """A step of the targets towards what is learned (Polyak averaging)."""
        assert self.online is not None
        for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
            slow.lerp_(fast, self.target_step)

    def columns(self, hidden_MH: Tensor, target_M: Tensor) -> dict[str, Tensor]:
        """Of the tokens `target_M`: `q1`, `q2`, their log softmax `q1_logp`, `q2_logp`, `target_q`; and `v` (M).

        Tokens x vocabulary is never made, and everything is in float32 also where the trunk runs in bf16.
        """
        assert self.online is not None, "only what is learned has these columns"
        with torch.autocast(hidden_MH.device.type, enabled=False):
            hidden_MH = self._read(hidden_MH)
            found = {"v": self.v(hidden_MH)[:, 0]}
            for name, q in (("q1", self.online.q1), ("q2", self.online.q2)):
                feature_MD, last = q.features(hidden_MH), q.last
                found[name] = q.at(feature_MD, target_M)
                found[f"{name}_logp"] = token_statistics(feature_MD, last.weight, target_M, bias_V=last.bias).logp_N
            with torch.no_grad():
                found["target_q"] = self.target.at(hidden_MH, target_M)
        return found

    @torch.no_grad()
    def shift(self, hidden_BH: Tensor) -> Tensor:
        """What is added to the logits (B, V), up to a number per row; only for few rows at a time."""
        with torch.autocast(hidden_BH.device.type, enabled=False):
            return self.beta * self.target(self._read(hidden_BH))  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write the targets and V into a model folder."""
        kept = {name: one.contiguous() for name, one in self.state_dict().items() if not name.startswith("online.")}
        save_file(kept, folder / FILE)

    @staticmethod
    def load(folder: str, hidden_size: int, vocabulary: int) -> ActionValues | None:
        """Those of a model folder, if it has any. Raises ConfigError if they cannot be used."""
        file = Path(folder) / FILE
        if not file.is_file():
            return None
        values = ActionValues(hidden_size, vocabulary)
        try:
            values.load_state_dict(load_file(file))
        except (SafetensorError, OSError, RuntimeError) as error:
            what = f"the action values do not fit this model: {str(error).strip().splitlines()[-1].strip()}"
            raise ConfigError(what, where=str(file), now="Copy the model folder again.") from error
        return values

    def _read(self, hidden: Tensor) -> Tensor:
        return hidden.to(self.v.first.weight.dtype)
