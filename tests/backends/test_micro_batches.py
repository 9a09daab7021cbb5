"""Micro-batches are as large as memory allows, and layers that run again for the gradient give the same one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from learners import CASES, Case, Group, adapters_on_one_base, plain_loss, rows, shared_trunk
from small_models import CAUSAL, VOCABULARY, bert_config, body_of, causal_lm, seeded
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from assent.backends.local import activations, probing
from assent.backends.local.activations import CPU_BYTES, MOST_TOKENS, Activations
from assent.backends.local.learner import LocalLearner
from assent.model.body import Body
from assent.model.roles import LanguageRole, ScalarRole, own_head
from assent.ports.learning import LearnerSettings, Need, Roles
from assent.text.template import Encoded

ONE_PROCESS = [name for name in CASES if "processes" not in name]
MIB = 1 << 20


def policy(name: str) -> Callable[[], Roles]:
    return lambda: Roles(policy=LanguageRole(body_of(causal_lm(name))))


def encoder() -> Roles:
    body = body_of(seeded(lambda: AutoModelForSequenceClassification.from_config(bert_config())))
    return Roles(scalar=ScalarRole(body, own_head(body, where="here")))


def trained(case: Case, settings: LearnerSettings) -> dict[str, Tensor]:
    learner = case.new(settings)
    assert isinstance(learner, LocalLearner)
    for step in range(2):
        learner.update(rows(step), case.need, plain_loss, case.count(rows(step)), 1e-2)
    return learner.parameters


def of(roles: Callable[[], Roles], need: Need) -> Case:
    return Case(new=lambda settings: LocalLearner(roles(), settings, seed=3), need=need, columns=())


MORE = {**{name: of(policy(name), Need()) for name in CAUSAL}, "encoder": of(encoder, Need(logp=False, logits=True))}


@pytest.mark.parametrize("name", [*ONE_PROCESS, *MORE])
def test_layers_that_run_again_give_the_same_weights_to_the_last_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = MORE[name] if name in MORE else CASES[name](Group())
    runs, whole = [0], torch.utils.checkpoint.checkpoint

    def counted(*arguments: object, **named: object) -> object:
        runs[0] += 1
        return whole(*arguments, **named)  # type: ignore[no-untyped-call]

    monkeypatch.setattr("assent.model.recomputing.checkpoint", counted)
    kept, again = (
        trained(case, LearnerSettings(dropout=case.random, micro_batch_tokens=20, gradient_checkpointing=wanted))
        for wanted in ("off", "on")
    )
    assert runs[0] > 0
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_layers_run_again_where_their_activations_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = LocalLearner(shared_trunk(), LearnerSettings(micro_batch_tokens=8))
    seen, whole = list[tuple[int, bool]](), Body.hidden

    def hidden(self: Body, batch: object, *arguments: object, **named: object) -> Tensor:
        seen.append((len(batch.ids_N), self.recomputes))  # type: ignore[attr-defined]
        return whole(self, batch, *arguments, **named)  # type: ignore[arg-type]

    per_token = learner._measured(rows()[0], Need(values=("value",))).per_token
    monkeypatch.setattr(activations, "free_memory_bytes", lambda device: 2 * 8 * per_token + 2000)
    monkeypatch.setattr(Body, "hidden", hidden)
    learner.update(rows(), Need(values=("value",)), plain_loss, 30.0, 1e-2)
    assert {(tokens, again) for tokens, again in seen if tokens < 16} == {
        (3 + 4, False), (4, False), (6, False), (8, False), (9, True),
    }  # fmt: skip
    assert not learner.body.recomputes


@pytest.mark.parametrize("roles", [shared_trunk, adapters_on_one_base])
def test_what_is_kept_is_proportional_to_tokens_and_of_every_trunk(roles: Callable[[], Roles]) -> None:
    learner, need = LocalLearner(roles()), Need(values=("value",))
    some = Encoded(ids=tuple(range(2, 50)), assistant_mask=(True,) * 48)
    found = learner._measured(some, need)
    exact = Activations.measured(
        lambda tokens: learner._forward(learner._blocks([_cut(some, tokens + 16)], need, 99), need),
        [*learner.body.model.parameters(), *learner.body.model.buffers()],
    )
    assert exact.per_token == pytest.approx(found.per_token, rel=0.02)
    config = learner.body.model.config
    trunks, layers = (2 if roles is adapters_on_one_base else 1), config.num_hidden_layers
    fewest = 4 * layers * (6 * config.hidden_size + 2 * config.intermediate_size)  # norms, q, k, v, attended, gate, up
    assert found.per_token >= trunks * fewest and found.per_token > 3 * VOCABULARY / 4


def test_a_probe_counts_the_longest_example_and_what_the_process_grew_by(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = LocalLearner(shared_trunk(), LearnerSettings(micro_batch_tokens=40))
    long = Encoded(ids=rows()[0].ids * 7, assistant_mask=(True,) * 63)
    held = iter([100.0, 100.0, 100.0, 140.0])
    monkeypatch.setattr(probing, "held_memory_mib", lambda: next(held))
    weights = sum(parameter.numel() * 4 for parameter in learner.parameters.values())
    still = learner.probe([*rows(), long], Need()).memory_bytes - 3 * weights
    assert still == learner._measured(rows()[0], Need()).of(63)
    assert learner.probe([*rows(), long], Need()).memory_bytes - 3 * weights == 40 * MIB * 63 // 34


def _cut(some: Encoded, tokens: int) -> Encoded:
    return Encoded(ids=some.ids[:tokens], assistant_mask=some.assistant_mask[:tokens])


@pytest.mark.parametrize(
    ("free", "on_cpu", "tokens"),
    [
        (64 << 30, True, CPU_BYTES // MIB),  # plenty: what a CPU has use for
        (CPU_BYTES, True, CPU_BYTES // MIB // 2),  # scarce: half of it
        (MIB, True, 1),
        (4 << 30, False, 2048),
        (64 << 30, False, MOST_TOKENS),
    ],
)
def test_micro_batches_fit_into_what_is_free(free: int, on_cpu: bool, tokens: int) -> None:
    assert Activations(fixed=0, per_token=MIB).fitting(free, on_cpu=on_cpu) == tokens


def test_a_loaded_learner_keeps_the_micro_batches_that_were_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = LocalLearner(shared_trunk())
    learner.update(rows(), Need(), plain_loss, 30.0, 1e-2)
    saved = learner.save(tmp_path)
    chosen = learner._micro_batches.most_tokens
    monkeypatch.setattr(activations, "free_memory_bytes", lambda device: 1 << 10)
    other = LocalLearner(shared_trunk())
    other.update(rows(), Need(), plain_loss, 30.0, 1e-2)
    assert other._micro_batches.most_tokens == 1
    other.load(tmp_path)
    assert other._micro_batches.most_tokens == chosen == MOST_TOKENS and other.save(tmp_path) == saved
