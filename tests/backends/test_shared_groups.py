"""Completions of one prompt, read as a tree, give what they give alone, forward and gradient, from fewer tokens."""

from __future__ import annotations

import pytest
import torch
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm
from torch.testing import assert_close

from assent.backends.local import layout
from assent.backends.local.learner import LocalLearner
from assent.model.roles import LanguageRole
from assent.ports.learning import LearnerSettings, LossResult, Need, Outputs, Roles
from assent.text.template import Encoded


def group(prompt: int, lengths: tuple[int, ...], seed: int) -> list[Encoded]:
    """Completions of a prompt; the second one begins as the first."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in (prompt, *lengths)]
    drawn[2] = [*drawn[1][:2], *drawn[2]]
    return [Encoded(ids=(*drawn[0], *one), assistant_mask=(False,) * prompt + (True,) * len(one)) for one in drawn[1:]]


EXAMPLES = [*group(9, (3, 5, 4, 1), 1), *group(2, (2, 6, 2, 3, 7), 2)]
MIXED = [EXAMPLES[place] for place in (4, 0, 6, 1, 8, 2, 5, 7, 3)]


def learner_of(name: str) -> LocalLearner:
    body, reference = (body_of(causal_lm(name)) for _ in range(2))
    with torch.no_grad():
        for parameter in reference.model.parameters():
            parameter.mul_(1.1)
    for one in (body, reference):
        one.model.double()
    return LocalLearner(Roles(policy=LanguageRole(body), reference=LanguageRole(reference)), LearnerSettings())


def loss(outputs: Outputs, run: list[Encoded], count: float) -> LossResult:
    scale_M = torch.arange(1, len(outputs["logp"]) + 1)
    total = sum((outputs[name] * (1 + scale_M % 3)).sum() for name in ("logp", "kl"))
    return LossResult(loss=total / count, sums={}, count=count)


def gradients(learner: LocalLearner, examples: list[Encoded]) -> dict[str, torch.Tensor]:
    need = Need(kl=True)
    outputs = learner._forward(learner._blocks(examples, need, 8192), need)
    loss(outputs, examples, 10.0).loss.backward()
    found = {name: one.grad.clone() for name, one in learner.parameters.items() if one.grad is not None}
    for one in learner.parameters.values():
        one.grad = None
    return {**found, **{name: column.detach() for name, column in outputs.columns.items()}}


@pytest.mark.parametrize("name", CAUSAL)
def test_a_pass_over_trees_is_one_over_sequences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, read = learner_of(name), []
    hidden = learner.roles.policy.hidden
    learner.roles.policy.hidden = lambda batch: (read.append(batch.ids_N.shape[0]), hidden(batch))[1]
    trees = gradients(learner, EXAMPLES)
    monkeypatch.setattr(layout, "FEWEST", 100)
    alone = gradients(learner, EXAMPLES)
    assert read[0] < 0.7 * read[1] == 0.7 * sum(map(len, EXAMPLES))
    assert trees.keys() == alone.keys()
    for key, found in trees.items():
        assert_close(found, alone[key], rtol=1e-5, atol=1e-6, msg=key)


def test_completions_of_one_prompt_are_read_side_by_side_and_come_back_in_their_order() -> None:
    learner = learner_of("llama")
    blocks = learner._blocks(MIXED, Need(kl=True), 8192)
    assert sorted(len(one.places) for one in blocks) == [4, 5] and all(one.tree for one in blocks)
    for example, found in zip(MIXED, learner.score(MIXED, Need(kl=True)), strict=True):
        (alone,) = learner.score([example], Need(kl=True))
        for name in ("logp", "kl", "reference_logp"):
            assert_close(found[name], alone[name], rtol=1e-5, atol=1e-6)


def test_a_prompt_with_many_completions_is_read_in_parts_that_fit() -> None:
    budget = 16
    blocks = learner_of("llama")._blocks(MIXED, Need(kl=True), budget)
    assert sorted(place for one in blocks for place in one.places) == list(range(len(MIXED)))
    assert len(blocks) > 2 and max(map(len, blocks)) <= budget


def test_few_completions_of_a_prompt_are_read_as_ever() -> None:
    pairs = [*EXAMPLES[:3], *EXAMPLES[4:7]]
    assert all(one.tree is None for one in learner_of("llama")._blocks(pairs, Need(), 8192))
