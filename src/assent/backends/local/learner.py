"""The local learner: one process, CPU or one GPU. The reference for every other learner."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assent.backends.local.activations import Activations, MicroBatches
from assent.backends.local.dropout import randomness
from assent.backends.local.language import language_columns
from assent.backends.local.layout import Block, blocks, judged, predicting
from assent.backends.local.optimiser import Optimiser
from assent.backends.local.probing import activations_of, every_column, tried
from assent.data.order import token_budget_batches
from assent.errors import ConfigError
from assent.metrics import Tally
from assent.model.body import Body, is_causal
from assent.model.checkpoints import load_tree, save_tree
from assent.model.memory import free_memory_bytes
from assent.model.roles import LanguageRole, ScalarRole
from assent.model.state import capture_rng, restore_rng
from assent.ports.learning import (
    Example,
    LearnerSettings,
    Loss,
    Need,
    Outputs,
    Roles,
    SkippedBatch,
    UpdateCost,
    UpdateReport,
)  # fmt: skip
from assent.ports.sampling import Progress, silent
from assent.seeds import derive
from assent.text.template import Encoded

DRIFT_LIMITS = {"fp32": 0.01, "bf16": 0.2}  # mean nats a token between sampler and learner; rounding makes a tenth
SNAPSHOT_SHARE = 0.1  # of the free memory: an adapter's copy always fits, the weights of a large model may not
_READ_AGAIN_EVERY = 8  # examples whose hidden states the sampler kept, of which the policy reads one all the same


class LocalLearner:
    """Trains the roles it is given: a policy, a policy with critics, or a scalar role (reward model, classifier).

    A critic on the policy's own body and adapter is only a head: policy and value come from one pass of the trunk.
    """

    def __init__(self, roles: Roles, settings: LearnerSettings = LearnerSettings(), *, seed: int = 0) -> None:
        if settings.dropout and roles.policy is not None and roles.policy.drops_at_head:
            now = "Use --set dropout=off, or leave the language head out of lora.targets."
            raise ConfigError("dropout of an adapter on the language head is not supported", now=now)
        self.roles, self.settings = roles, settings
        self.parameters = self._trainable()
        values = roles.policy.action_values if roles.policy is not None else None
        self._values = values if values is not None and values.online is not None else None
        learned = [] if self._values is None else self._values.target.named_parameters()
        self._targets = {f"target.{name}": parameter for name, parameter in learned}  # they follow without gradients
        self._optimiser = Optimiser(self.parameters, settings)
        self._seed, self._passes = seed, 0
        self._held: Mapping[str, Any] | None = None
        self._micro_batches = MicroBatches(settings, self.body.device)

    @property
    def body(self) -> Body:
        """The network that is trained (of a policy with critics, the policy's)."""
        role = self.roles.policy or self.roles.scalar
        assert role is not None, "a learner needs a policy or a scalar role"
        return role.body

    @property
    def drift_limit(self) -> float:
        """By how much rounding lets sampler and learner disagree."""
        return DRIFT_LIMITS[self.body.precision]

    def _on_trunk(self, name: str) -> bool:
        critic, policy = self.roles.critics[name], self.roles.policy
        return policy is not None and critic.body is policy.body and critic.adapter == policy.adapter

    def _trainable(self) -> dict[str, nn.Parameter]:
        roles, named = self.roles, dict[str, nn.Parameter]()
        if roles.policy is not None:
            named |= {f"policy.{name}": p for name, p in roles.policy.parameters().items()}
        for critic, role in roles.critics.items():
            own = role.parameters(trunk=not self._on_trunk(critic))
            named |= {f"critics.{critic}.{name}": p for name, p in own.items()}
        if roles.scalar is not None:
            named |= {f"scalar.{name}": p for name, p in roles.scalar.parameters().items()}
        for parameter in named.values():
            parameter.requires_grad_(True)
        return named

    @torch.no_grad()
    def score(
        self, examples: Sequence[Example], need: Need, *, states: Sequence[np.ndarray | None] = (),
        progress: Progress = silent,
    ) -> list[Outputs]:  # fmt: skip
        """Forward without gradient, dropout off, shortest examples first.

        Where the sampler kept its hidden states the policy's trunk reads only some examples, to see that both agree.
        """
        self._set_dropout(on=False)
        kept = {i: torch.from_numpy(one) for i, one in enumerate(states) if one is not None and i % _READ_AGAIN_EVERY}
        budget = self.body.at_once(self.settings.micro_batch_tokens)
        found: dict[int, Outputs] = {}
        for group in ([i for i in range(len(examples)) if i not in kept], list(kept)):
            laid = sorted(self._blocks([examples[i] for i in group], need, budget), key=len)
            for part in token_budget_batches([len(one) for one in laid], budget):
                run = laid[part.start : part.stop]
                chosen = [group[place] for one in run for place in one.places]
                hidden_MH = torch.cat([kept[i] for i in chosen]) if chosen[0] in kept else None
                outputs = self._forward(run, need, hidden_MH)
                split = outputs.split([examples[i] for i in chosen], from_states=hidden_MH is not None)
                found |= zip(chosen, split, strict=True)
                progress(len(chosen))
        return [found[i] for i in range(len(examples))]

    def update(
        self, examples: Sequence[Example], need: Need, loss: Loss, count: float, learning_rate: float, *,
        progress: Progress = silent,
    ) -> UpdateReport:  # fmt: skip
        """Accumulate the gradient of every micro-batch, clip, step; a non-finite loss or gradient changes nothing."""
        passes = self._passes
        try:
            tally, batches = self._accumulate(examples, need, loss, count, progress)
        except BaseException:
            self._forget(passes)
            raise
        return self._step(tally, batches, learning_rate)

    def _forget(self, passes: int) -> None:
        """The gradients, and the passes that drew dropout for them."""
        self._optimiser.clear()
        self._passes = passes

    def _accumulate(
        self, examples: Sequence[Example], need: Need, loss: Loss, count: float, progress: Progress = silent
    ) -> tuple[Tally, list[SkippedBatch]]:
        budget = self._micro_batches.tokens(partial(self._measured, examples[0].sequences[0], need))
        self._set_dropout(on=self.settings.dropout)
        tally, batches, run = Tally(), list[SkippedBatch](), list[Example]()
        laid, bodies = self._blocks(examples, need, budget), [role.body for role in self._roles()]
        if all(len(one.sequences) == 1 for one in examples):  # pairs and rankings keep the order they come in
            laid.sort(key=len)
        for part in token_budget_batches([len(one) for one in laid], budget):
            if batches:
                progress(len(run))
            run = [example for one in laid[part.start : part.stop] for example in one.examples]
            tokens = sum(map(len, laid[part.start : part.stop]))
            with self._dropout_randomness(), self._micro_batches.passes(bodies, tokens):
                result = loss(self._forward(laid[part.start : part.stop], need), run, count)
            value = result.loss.item()
            if math.isfinite(value):
                result.loss.backward()  # type: ignore[no-untyped-call]
            result.add_to(tally)
            sequences = [sequence for one in run for sequence in one.sequences]
            ids, predicted = tuple(one.ids for one in sequences), tuple(one.predicted for one in sequences)
            batches.append(SkippedBatch(loss=value, sequences=ids, predicted=predicted))
        return tally, batches

    def probe(self, examples: Sequence[Example], need: Need) -> UpdateCost:
        """The second of two micro-batches, and sizes: the examples may be longer than those that are read here."""
        budget = self._micro_batches.tokens(partial(self._measured, examples[0].sequences[0], need))
        lengths = [sum(map(len, one.sequences)) for one in examples]
        some, passes = examples[: max(1, sum(total <= budget for total in accumulate(lengths)))], self._passes
        try:
            trial = tried(lambda: self._accumulate(some, need, every_column, 1.0))
        finally:
            self._forget(passes)
        longest = min(sum(lengths), max(budget, *lengths))
        kept = self._measured(examples[0].sequences[0], need).of(longest)
        if self._micro_batches.runs_again(longest):  # the inputs of all layers, and what one of them keeps
            kept = kept // self.body.layers + self._measured(examples[0].sequences[0], need, again=True).of(longest)
        else:
            kept = max(kept, trial.grown_bytes * longest // sum(lengths[: len(some)]))
        trained = self._optimiser.state_bytes  # weights and moments take as much as gradients and moments
        fits = trained <= SNAPSHOT_SHARE * free_memory_bytes(self.body.device)
        return UpdateCost(
            seconds_per_token=trial.seconds / sum(lengths[: len(some)]), memory_bytes=trained + kept,
            snapshot_bytes=trained if fits else 0,
        )  # fmt: skip

    def _measured(self, some: Encoded, need: Need, *, again: bool = False) -> Activations:
        self._set_dropout(on=False)
        return activations_of(self._roles(), partial(self._forward, need=need), some, again=again)

    def _step(self, tally: Tally, batches: Sequence[SkippedBatch], learning_rate: float) -> UpdateReport:
        norm = self._optimiser.clip()
        skipped = not math.isfinite(norm) or not all(math.isfinite(batch.loss) for batch in batches)
        if not skipped:
            self._optimiser.step(learning_rate)
            if self._values is not None:
                self._values.move_targets()
        self._optimiser.clear()
        return UpdateReport(means=tally.means(), gradient_norm=norm, skipped=tuple(batches) if skipped else ())

    def publish(self) -> int:
        """The local sampler reads the same weights: only their version changes."""
        policy = self.roles.policy
        assert policy is not None, "only a policy writes"
        policy.version, self._held = policy.version + 1, None
        return policy.version

    def save(self, folder: Path) -> dict[str, str]:
        """Weights, the optimiser's moments and step counts by parameter name, and the random generators."""
        return save_tree(folder, self._state())

    def _state(self) -> dict[str, Any]:
        counts = {"passes": self._passes, "micro_batch_tokens": self._micro_batches.most_tokens}
        targets = {name: parameter.detach() for name, parameter in self._targets.items()}
        return {**self._optimiser.state(), "targets": targets, "rng": capture_rng(), **counts}

    def load(self, folder: Path) -> None:
        """The reverse of `save`, bit for bit."""
        self._restore(load_tree(folder))

    def snapshot(self) -> bool:
        """Copy weights and moments, unless that would take more than SNAPSHOT_SHARE of the memory that is free."""
        fits = self._optimiser.state_bytes <= SNAPSHOT_SHARE * free_memory_bytes(self.body.device)
        self._held = copy.deepcopy(self._state()) if fits else None
        return fits

    def rollback(self) -> None:
        """The state of `snapshot`."""
        assert self._held is not None, "there is no snapshot"
        self._restore(self._held)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._optimiser.restore(state)
        with torch.no_grad():
            for name, target in self._targets.items():
                target.copy_(state["targets"][name])
        self._passes, self._micro_batches.most_tokens = state["passes"], state["micro_batch_tokens"]
        restore_rng(state["rng"])

    def _dropout_randomness(self) -> AbstractContextManager[None]:
        """Every pass has a seed of its own."""
        self._passes += self.settings.dropout
        return randomness(derive(self._seed, "dropout", self._passes) if self.settings.dropout else None, self.body)

    def _set_dropout(self, *, on: bool) -> None:
        for role in self._roles():
            role.body.model.train(on)

    def _roles(self) -> list[LanguageRole | ScalarRole]:
        """Those that are trained."""
        roles = (self.roles.policy, *self.roles.critics.values(), self.roles.scalar)
        return [role for role in roles if role is not None]

    def _blocks(self, examples: Sequence[Example], need: Need, budget: int) -> list[Block]:
        """The examples as they are read: prompts once, where every trunk can read trees and dropout does not differ.

        On CUDA the kernel for flat rows knows no masks. Log-probabilities in bf16 are compared with those of other
        batches, and a tree rounds them differently: a policy would not start as its own reference.
        """
        role = self.roles.scalar if need.logits else None
        roles = (role,) if role is not None else (self.roles.policy, self.roles.reference, *self.roles.critics.values())
        trunks = [one.body for one in roles if one is not None]
        readable = all(
            is_causal(body.model) and body.steady_length is None and body.device.type == "cpu" for body in trunks
        )
        trees = readable and not self.settings.dropout
        trees = trees and (self.body.precision == "fp32" if role is None else not role.reads_first_token)
        read_part = role.read_part if role is not None else lambda ids: ids
        return blocks(examples, trees=trees, read_part=read_part, budget=budget)

    def _forward(self, run: Sequence[Block], need: Need, hidden_MH: Tensor | None = None) -> Outputs:
        if need.logits:
            return Outputs(columns={"logits": self._logits(run)})
        policy = self.roles.policy
        assert policy is not None, "this loss needs a policy"
        batch = predicting(run).to(self.body.device)
        hidden_MH = policy.hidden(batch) if hidden_MH is None else hidden_MH.to(self.body.device)
        critics = {name: self.roles.critics[name] for name in need.values}
        values = {
            name: critic.values_at(hidden_MH) if self._on_trunk(name) else critic.values(batch)
            for name, critic in critics.items()
        }
        if need.action_values:
            assert policy.action_values is not None, "this loss needs action values"
            values |= policy.action_values.columns(hidden_MH, batch.target_M)
        return Outputs(
            columns={**(language_columns(self.roles, batch, need, hidden_MH) if need.logp else {}), **values}
        )

    def _logits(self, run: Sequence[Block]) -> Tensor:
        """Head outputs (B, C) in the order of the sequences."""
        role = self.roles.scalar
        assert role is not None, "this loss needs a scalar role"
        batch, order = judged(run, role.read_part)
        return role.logits(batch.to(self.body.device))[order]
