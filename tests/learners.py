"""Learners for the contract suite: of one process, and of two that share the examples and add up gradients (gloo)."""

from __future__ import annotations

import math
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from small_models import VOCABULARY, body_of, causal_lm

from assent.backends.local.learner import LocalLearner
from assent.metrics import Tally
from assent.model.adapters import LoraSettings
from assent.model.body import Body
from assent.model.roles import LanguageRole, ScalarRole, fresh_head
from assent.ports.learning import (
    Example,
    Learner,
    LearnerSettings,
    Loss,
    LossResult,
    Need,
    Outputs,
    Roles,
    UpdateCost,
    UpdateReport,
)
from assent.ports.sampling import Progress, silent
from assent.text.template import Encoded

LENGTHS = (9, 4, 4, 6, 3, 8)


def rows(seed: int = 0) -> list[Encoded]:
    """Examples of several lengths, everything predicted."""
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]
    return [Encoded(ids=tuple(one), assistant_mask=(True,) * len(one)) for one in ids]


def plain_loss(outputs: Outputs, run: Sequence[Encoded], count: float) -> LossResult:
    """A sum over all items divided by their count, so that parts add up to the whole."""
    total = torch.stack([(column - 0.3).square().sum() for column in outputs.columns.values()]).sum()
    return LossResult(loss=total / count, sums={"loss": total.item()}, count=float(len(run)))


def broken_loss(outputs: Outputs, run: Sequence[Encoded], count: float) -> LossResult:
    """Not a number for one micro-batch, that of the longest example."""
    result = plain_loss(outputs, run, count)
    bad = float("nan") if any(len(one) == max(LENGTHS) for one in run) else 1.0
    return LossResult(loss=result.loss * bad, sums=result.sums, count=result.count)


def steep_loss(outputs: Outputs, run: Sequence[Encoded], count: float) -> LossResult:
    """Finite, but its gradient is not: the root of zero."""
    (first, *_) = outputs.columns.values()
    return LossResult(loss=(first * 0.0).square().sum().sqrt(), sums={}, count=1.0)


def critic(body: Body, adapter: str | None = None) -> ScalarRole:
    """A fresh head."""
    return ScalarRole(body, fresh_head(body.hidden_size, seed=0, name="critic"), adapter)


def full_weights() -> Roles:
    return Roles(policy=LanguageRole(body_of(causal_lm("llama"))))


def gpt2() -> Roles:
    return Roles(policy=LanguageRole(body_of(causal_lm("gpt2"))))


def low_rank() -> Roles:
    body = body_of(causal_lm("qwen3"))
    body.add_adapter("policy", LoraSettings(rank=4))
    return Roles(policy=LanguageRole(body, "policy"))


def shared_trunk() -> Roles:
    body = body_of(causal_lm("llama"))
    return Roles(policy=LanguageRole(body), critics={"value": critic(body)})


def two_critics() -> Roles:
    body, other = body_of(causal_lm("llama")), body_of(causal_lm("qwen2"))
    return Roles(policy=LanguageRole(body), critics={"reward": critic(other), "cost": critic(body)})


def adapters_on_one_base() -> Roles:
    body = body_of(causal_lm("llama"))
    for name in ("policy", "critic"):
        body.add_adapter(name, LoraSettings(rank=4))
    return Roles(policy=LanguageRole(body, "policy"), critics={"value": critic(body, "critic")})


def with_reference() -> Roles:
    return Roles(policy=LanguageRole(body_of(causal_lm("llama"))), reference=LanguageRole(body_of(causal_lm("qwen2"))))


def with_action_values() -> Roles:
    policy = LanguageRole(body_of(causal_lm("llama")))
    policy.learn_action_values(beta=1.0, target_step=0.3, seed=2)
    return Roles(policy=policy)


def scalar() -> Roles:
    return Roles(scalar=critic(body_of(causal_lm("neox"))))


VALUE = Need(values=("value",))
SCALAR = Need(logp=False, logits=True)
WITH_KL = Need(kl=True, entropy=True)


class Rank(LocalLearner):
    """One of several equal replicas: reads its share of the examples, and steps with the sum of all gradients."""

    def update(
        self, examples: Sequence[Example], need: Need, loss: Loss, count: float, learning_rate: float, *,
        progress: Progress = silent,
    ) -> UpdateReport:  # fmt: skip
        rank, size = dist.get_rank(), dist.get_world_size()
        tally, batches = self._accumulate(examples[rank::size], need, loss, count, progress)
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
        parts: list[Any] = [None] * size
        dist.all_gather_object(parts, (tally, batches))
        whole = Tally()
        for part, _ in parts:
            for name, (total, seen) in part._sums.items():
                whole.add({name: total}, seen)
        return self._step(whole, [batch for _, found in parts for batch in found], learning_rate)


def serve(rank: int, size: int, port: int, line: Connection) -> None:
    """The process of a rank: makes learners by name and does what it is asked with them."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    learners: list[LocalLearner] = []
    while (asked := line.recv()) is not None:
        number, verb, arguments = asked
        if verb == "make":
            roles, settings = arguments
            learners.append(Rank(roles(), settings))
            answer: Any = len(learners) - 1
        elif verb == "score":
            examples, need = arguments
            answer = learners[number].score(examples[rank::size], need)
        elif verb == "save":
            answer = learners[number].save(*arguments) if rank == 0 else {}
        else:
            found = getattr(learners[number], verb)
            answer = found(*arguments) if callable(found) else found
        line.send(answer)
    dist.destroy_process_group()


class Group:
    """Processes that work together; started by the first question."""

    size = 2

    def __init__(self) -> None:
        self._lines: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def ask(self, number: int, verb: str, *arguments: Any) -> list[Any]:
        """What every rank answers."""
        if not self._lines:
            self._start()
        for line in self._lines:
            line.send((number, verb, arguments))
        return [line.recv() for line in self._lines]

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        for rank in range(self.size):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, self.size, port, theirs), daemon=True)
            process.start()
            self._lines.append(mine)
            self._processes.append(process)

    def close(self) -> None:
        """End the processes."""
        for line in self._lines:
            line.send(None)
        for process in self._processes:
            process.join(timeout=20)


class TwoProcesses:
    """`Learner` over the ranks of a group: examples are sharded, gradients added up, files written by rank 0."""

    def __init__(self, group: Group, roles: Callable[[], Roles], settings: LearnerSettings) -> None:
        self._group = group
        self._number = group.ask(0, "make", roles, settings)[0]

    @property
    def drift_limit(self) -> float:
        return float(self._ask("drift_limit")[0])

    def score(
        self, examples: Sequence[Example], need: Need, *, states: Sequence[Any] = (), progress: Progress = silent
    ) -> list[Outputs]:
        parts = (
            self._ask("score", list(examples), need) if len(examples) > 1 else self._ask("score", [*examples] * 2, need)
        )
        found = [parts[place % self._group.size][place // self._group.size] for place in range(len(examples))]
        progress(len(examples))
        return found

    def update(
        self, examples: Sequence[Example], need: Need, loss: Loss, count: float, learning_rate: float, *,
        progress: Progress = silent,
    ) -> UpdateReport:  # fmt: skip
        progress(0)
        reports = self._ask("update", list(examples), need, loss, count, learning_rate)
        assert reports[0] == reports[1] or math.isnan(reports[0].gradient_norm) or reports[0].skipped
        return reports[0]

    def publish(self) -> int:
        return int(self._ask("publish")[0])

    def probe(self, examples: Sequence[Example], need: Need) -> UpdateCost:
        return max(self._ask("probe", list(examples), need), key=lambda cost: cost.memory_bytes)

    def snapshot(self) -> bool:
        return all(self._ask("snapshot"))

    def rollback(self) -> None:
        self._ask("rollback")

    def save(self, folder: Path) -> dict[str, str]:
        return dict(self._ask("save", folder)[0])

    def load(self, folder: Path) -> None:
        self._ask("load", folder)

    def _ask(self, verb: str, *arguments: Any) -> list[Any]:
        return self._group.ask(self._number, verb, *arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A kind of learner, what its loss needs, and which columns that gives; `random`: it draws dropout."""

    new: Callable[[LearnerSettings], Learner]
    need: Need
    columns: tuple[str, ...]
    random: bool = False

    def make(self, *, micro_batch_tokens: int = 8192) -> Learner:
        """A learner; all of a kind are equal."""
        settings = LearnerSettings(weight_decay=0.01, dropout=self.random, micro_batch_tokens=micro_batch_tokens)
        return self.new(settings)

    def count(self, examples: Sequence[Encoded]) -> float:
        """What the loss divides by."""
        return float(len(examples) if self.need.logits else sum(one.predicted for one in examples))


def _local(roles: Callable[[], Roles], need: Need, *columns: str, random: bool = False) -> Callable[[Group], Case]:
    def case(_: Group) -> Case:
        return Case(
            new=lambda settings: LocalLearner(roles(), settings, seed=3), need=need, columns=columns, random=random
        )

    return case


def _two(roles: Callable[[], Roles], need: Need, *columns: str) -> Callable[[Group], Case]:
    return lambda group: Case(new=partial(TwoProcesses, group, roles), need=need, columns=columns)


CASES: dict[str, Callable[[Group], Case]] = {
    "full weights": _local(full_weights, Need(), "logp"),
    "dropout": _local(gpt2, Need(), "logp", random=True),
    "adapter": _local(low_rank, Need(entropy=True), "logp", "entropy"),
    "shared trunk": _local(shared_trunk, VALUE, "logp", "value"),
    "two critics": _local(two_critics, Need(values=("reward", "cost")), "logp", "reward", "cost"),
    "adapters on one base": _local(adapters_on_one_base, VALUE, "logp", "value"),
    "reference": _local(with_reference, WITH_KL, "logp", "entropy", "kl", "reference_logp"),
    "action values": _local(
        with_action_values, Need(action_values=True), "logp", "q1", "q1_logp", "q2", "q2_logp", "target_q", "v"
    ),
    "scalar": _local(scalar, SCALAR, "logits"),
    "two processes": _two(two_critics, Need(values=("reward", "cost")), "logp", "reward", "cost"),
    "two processes, scalar": _two(scalar, SCALAR, "logits"),
}
