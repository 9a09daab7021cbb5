"""PTX: imitation mixed into on-policy updates, so that the policy keeps what it could before (Ouyang et al. 2022).

L = L_on-policy - ptx_coef (1/T) sum over assistant tokens  log pi(token)      T: those of an update's own examples

InstructGPT's PPO-ptx mixes in pretraining data; demonstrations of SFT serve as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from assent.algorithms.epochs import Objective, predicted_tokens
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.data.order import epoch_order
from assent.errors import ConfigError
from assent.losses.supervised import supervised_loss
from assent.ports.learning import Loss, LossResult, Outputs
from assent.seeds import derive
from assent.text.template import Encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class PTX:
    """Examples to imitate, how many of them an update takes, and what their loss counts."""

    examples: Sequence[Encoded]
    size: int
    coef: float
    seed: int

    def drawn(self, step: int) -> list[Encoded]:
        """The examples of an update: epochs over all of them, a pure function of seed and step."""
        places = [divmod(place, len(self.examples)) for place in range(step * self.size, (step + 1) * self.size)]
        seed, count = derive(self.seed, "ptx"), len(self.examples)
        orders = {epoch: epoch_order(count, seed=seed, epoch=epoch) for epoch in {epoch for epoch, _ in places}}
        return [self.examples[int(orders[epoch][place])] for epoch, place in places]

    def added(self, objective: Objective) -> Objective:
        """An on-policy objective for steps with such examples among their own."""
        return Objective(
            loss=partial(_mixed, loss=objective.loss, coef=self.coef),
            need=objective.need,
            count=lambda examples: objective.count([one for one in examples if not isinstance(one, Encoded)]),
            of_step=lambda _, examples: predicted_tokens([one for one in examples if isinstance(one, Encoded)]),
        )


def ptx_of(examples: Sequence[Encoded], settings: OnPolicySettings, *, seed: int) -> PTX | None:
    """As the settings say; None without PTX. Raises ConfigError where data or coefficient is missing."""
    if not examples and not settings.ptx_coef:
        return None
    if not examples:
        raise ConfigError("there is nothing to imitate", where="ptx_coef", now="Give --ptx-data (in Python ptx_data).")
    if not settings.ptx_coef:
        raise ConfigError("the PTX data counts nothing", where="ptx_coef", now="Set ptx_coef, for example to 1.")
    if settings.temperature != 1.0:
        now = "Sample at temperature 1, or leave PTX out."
        raise ConfigError("PTX imitates at temperature 1, and this run trains at another", where="temperature", now=now)
    return PTX(examples=examples, size=settings.ptx_batch_size, coef=settings.ptx_coef, seed=seed)


def _mixed(
    outputs: Outputs, run: Sequence[Any], count: float, ptx_tokens: float, *, loss: Loss, coef: float
) -> LossResult:
    """The loss of a micro-batch in which both kinds of examples may stand in any order."""
    tokens = torch.tensor([sum(sequence.predicted for sequence in one.sequences) for one in run])
    imitated_M = torch.tensor([isinstance(one, Encoded) for one in run]).repeat_interleave(tokens)
    imitated_M = imitated_M.to(outputs["logp"].device)
    imitated = supervised_loss(outputs["logp"], imitated_M, step_tokens=ptx_tokens)
    sums, counts = {"ptx_loss": imitated.negative_logp.item()}, {"ptx_loss": float(imitated.tokens)}
    own = [one for one in run if not isinstance(one, Encoded)]
    if not own:
        return LossResult(loss=coef * imitated.loss, sums=sums, count=0.0, counts=counts)
    found = loss(Outputs(columns={name: column[~imitated_M] for name, column in outputs.columns.items()}), own, count)
    return LossResult(
        loss=found.loss + coef * imitated.loss, sums={**found.sums, **sums}, count=found.count,
        counts={**found.counts, **counts},
    )  # fmt: skip
