"""PTX: both losses by their own counts, whatever the micro-batches, and mistakes in giving it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from policy_batches import drawn, experience_of, loss_of, method_of
from torch.testing import assert_close
from training_jobs import CPU, PROMPTS, demonstrations

from assent.algorithms.epochs import Objective
from assent.algorithms.grpo import GRPO, GRPOSettings
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.ptx import PTX
from assent.algorithms.on_policy.update import weighted
from assent.errors import ConfigError
from assent.metrics import Metrics
from assent.ports.learning import Outputs
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.training.prepare_on_policy import PTXPrompts, prepare_on_policy
from assent.text.template import Encoded


def shown(length: int) -> Encoded:
    return Encoded(ids=(1,) * (length + 2), assistant_mask=(False, False) + (True,) * length)


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo", "reinforce", "cispo", "raft"])
def test_the_loss_is_the_sum_of_both_each_by_its_own_tokens(name: str) -> None:
    lengths, coef = (3, 1, 2), 0.7
    columns = {"logp": -drawn(6, 1).abs(), "advantage": drawn(6, 2).abs(), "value": drawn(6, 3), "return": drawn(6, 4)}
    experience = experience_of(lengths, columns, 3)
    method, settings = method_of(name)
    own = Objective(
        loss=partial(method.loss, settings=settings, kl=KLShaping.of(settings)), count=method.count,
    )  # fmt: skip
    ptx = PTX(examples=[shown(4), shown(2)], size=2, coef=coef, seed=0)
    normalisation = method.normalisation(settings)
    first, second, third = weighted(experience.samples, normalisation, max_tokens=settings.max_tokens)
    step: list[Any] = [first, shown(4), second, third, shown(2)]
    logp_M, value_M = (-drawn(12, 5).abs()).requires_grad_(), drawn(12, 6)
    own_M = torch.tensor([True] * 3 + [False] * 4 + [True] * 3 + [False] * 2)
    objective = ptx.added(own)
    loss = objective.step_loss(None, step)  # type: ignore[arg-type]
    found = loss(Outputs(columns={"logp": logp_M, "value": value_M}), step, objective.count(step))
    alone = loss_of(name, experience, {"logp": logp_M[own_M], "value": value_M[own_M]})
    truth = alone - coef * logp_M[~own_M].mean()
    assert_close(found.loss, truth)
    assert_close(torch.autograd.grad(found.loss, logp_M, retain_graph=True)[0], torch.autograd.grad(truth, logp_M)[0])
    assert found.sums["ptx_loss"] / found.counts["ptx_loss"] == pytest.approx(-logp_M[~own_M].mean().item())
    pure = loss(Outputs(columns={"logp": logp_M[3:7]}), [shown(4)], objective.count(step))
    assert_close(pure.loss, -coef * logp_M[3:7].sum() / 6)


def test_every_example_is_drawn_once_in_an_epoch() -> None:
    ptx = PTX(examples=[shown(length) for length in (1, 2, 3, 4)], size=2, coef=1.0, seed=5)
    steps = [[len(one) for one in ptx.drawn(step)] for step in range(6)]
    for epoch in (0, 2, 4):
        assert sorted(steps[epoch] + steps[epoch + 1]) == [3, 4, 5, 6]
    assert ptx.drawn(3) == ptx.drawn(3) and len({tuple(step) for step in steps}) > 2


def trained(folders: dict[str, Path], *, ptx: bool = True, **settings: object) -> tuple[LanguageModel, list[Metrics]]:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    chosen = GRPOSettings(
        **{
            "iterations": 2, "batch_size": 4, "samples_per_prompt": 2, "max_tokens": 5, "learning_rate": 1e-2,
            "normalise_prompts": 8, "ptx_coef": 0.5, "ptx_batch_size": 3, **settings,
        }
    )  # fmt: skip
    scorer = FunctionScorer(lambda prompts, texts: [float(len(text)) for text in texts])
    prompts = PTXPrompts(prompts=PROMPTS, ptx=demonstrations() if ptx else ())
    return model, prepare_on_policy(GRPO, model, prompts, chosen, seed=2, reward=scorer).run()


def test_micro_batches_of_both_kinds_add_up(folders: dict[str, Path]) -> None:
    (whole, rows), (parts, others) = (trained(folders, micro_batch_tokens=tokens) for tokens in (8192, 20))
    assert rows[0]["ptx_loss"] == pytest.approx(others[0]["ptx_loss"], rel=1e-5)
    for name, weight in whole.role.parameters().items():
        assert_close(weight, parts.role.parameters()[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("ptx", "settings", "told"),
    [
        (True, {"ptx_coef": 0.0}, "counts nothing"),
        (False, {}, "nothing to imitate"),
        (True, {"temperature": 0.7}, "temperature 1"),
    ],
)
def test_ptx_that_does_nothing_or_something_else_is_refused(
    ptx: bool, settings: dict[str, object], told: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(ConfigError, match=told):
        trained(folders, ptx=ptx, **settings)
