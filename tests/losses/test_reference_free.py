"""SimPO and ORPO against slow loops, closed forms and float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.direct import Compared, DirectLoss
from assent.losses.reference_free import log_odds, odds_ratio_loss, simpo_loss

LABEL_P = tensor([1.0, 0.5, 0.8, 0.0, 1.0], dtype=torch.float64)
Loss = Callable[[Compared, float], DirectLoss]
LOSSES: dict[str, Loss] = {
    "simpo": lambda logp, pairs: simpo_loss(logp, beta=2.0, gamma=0.7, step_pairs=pairs),
    "orpo": lambda logp, pairs: odds_ratio_loss(logp, coef=0.3, step_pairs=pairs),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def logps(count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Mean log-probabilities of a token, from nearly certain to very unlikely."""
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (-6 * drawn - 0.01).to(dtype).requires_grad_()


def compared(chosen_P: Tensor, rejected_P: Tensor, label_P: Tensor | None = None) -> Compared:
    plain_P = torch.ones_like(chosen_P).detach() if label_P is None else label_P
    return Compared(chosen_P=chosen_P, rejected_P=rejected_P, probability_P=plain_P)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_simpo_is_its_formula_with_the_margin_on_the_side_of_each_voter() -> None:
    chosen_P, rejected_P = logps(5, 1), logps(5, 2)
    found = LOSSES["simpo"](compared(chosen_P, rejected_P, LABEL_P), 7)
    total = 0.0
    for chosen, rejected, label in zip(*(x.tolist() for x in (chosen_P, rejected_P, LABEL_P)), strict=True):
        total -= label * math.log(sigmoid(2 * chosen - 2 * rejected - 0.7))
        total -= (1 - label) * math.log(sigmoid(2 * rejected - 2 * chosen - 0.7))
    assert found.loss.item() == pytest.approx(total / 7, rel=1e-12)
    assert found.margin.item() == pytest.approx(2 * (chosen_P - rejected_P).sum().item())


def test_orpo_is_its_formula_in_odds() -> None:
    chosen_P, rejected_P = logps(5, 3), logps(5, 4)
    found = LOSSES["orpo"](compared(chosen_P, rejected_P, LABEL_P), 7)
    total = 0.0
    for chosen, rejected, label in zip(*(x.tolist() for x in (chosen_P, rejected_P, LABEL_P)), strict=True):
        odds = [math.exp(one) / (1 - math.exp(one)) for one in (chosen, rejected)]
        ratio = odds[0] / odds[1]
        total -= 0.3 * (label * math.log(ratio / (1 + ratio)) + (1 - label) * math.log(1 / (1 + ratio)))
    assert found.loss.item() == pytest.approx(total / 7, rel=1e-10)


@every_loss
def test_losses_have_the_numerical_gradient(loss: Loss) -> None:
    def value(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
        return loss(compared(chosen_P, rejected_P, LABEL_P), 3).loss

    assert torch.autograd.gradcheck(value, (logps(5, 5), logps(5, 6)))


@every_loss
def test_a_soft_label_is_the_mean_over_the_people_it_summarises(loss: Loss) -> None:
    one, other = logps(1, 7), logps(1, 8)
    votes = [loss(compared(one, other), 4).loss] * 3 + [loss(compared(other, one), 4).loss]
    soft = loss(compared(one, other, tensor([0.75], dtype=torch.float64)), 1).loss
    assert_close(torch.stack(votes).sum(), soft)


@every_loss
def test_a_tie_pulls_both_sides_together(loss: Loss) -> None:
    even_P = tensor([0.5], dtype=torch.float64)
    same = torch.full((1,), -1.3, dtype=torch.float64, requires_grad=True)
    (pull,) = torch.autograd.grad(loss(compared(same, same.detach(), even_P), 1).loss, same)
    assert pull.item() == pytest.approx(0.0, abs=1e-12)


@every_loss
def test_micro_batches_of_pairs_add_up_to_the_step(loss: Loss) -> None:
    chosen_P, rejected_P = logps(5, 9), logps(5, 10)
    whole = loss(compared(chosen_P, rejected_P, LABEL_P), 5).loss
    parts = [
        loss(compared(chosen_P[part], rejected_P[part], LABEL_P[part]), 5).loss for part in (slice(2), slice(2, 5))
    ]
    assert_close(torch.stack(parts).sum(), whole, rtol=0, atol=1e-12)


def test_odds_in_float32_are_those_of_float64_from_impossible_to_nearly_certain() -> None:
    exponents = torch.linspace(-15, 6, 200, dtype=torch.float64)
    wide_B = -(10.0 ** (exponents / 3))  # -1e-5 to -100
    narrow_B = wide_B.float().requires_grad_()
    exact_B = narrow_B.detach().double().requires_grad_()
    assert_close(log_odds(narrow_B).double(), log_odds(exact_B), rtol=1e-6, atol=1e-6)
    gradient_B = torch.autograd.grad(log_odds(narrow_B).sum(), narrow_B)[0]
    assert_close(gradient_B.double(), torch.autograd.grad(log_odds(exact_B).sum(), exact_B)[0], rtol=1e-5, atol=1e-6)
    truth_B = [math.log(math.exp(a) / -math.expm1(a)) for a in exact_B.tolist()]
    assert log_odds(exact_B).tolist() == pytest.approx(truth_B)


def test_a_certain_answer_has_finite_odds_and_no_gradient() -> None:
    certain_P, other_P = torch.zeros(1, requires_grad=True), tensor([-1.0], requires_grad=True)
    for chosen_P, rejected_P in ((certain_P, other_P), (other_P, certain_P)):
        loss = odds_ratio_loss(compared(chosen_P, rejected_P), coef=1.0, step_pairs=1).loss
        gradients = torch.autograd.grad(loss, (certain_P, other_P))
        assert loss.isfinite() and gradients[0].item() == 0.0 and gradients[1].isfinite()


def test_bfloat16_is_taken_to_float32_before_the_odds() -> None:
    assert log_odds(tensor([-0.001], dtype=torch.bfloat16)).dtype == torch.float32
