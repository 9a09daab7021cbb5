"""DPO in all its forms against slow loops and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.direct import Compared, DirectForm, DirectLoss, DirectShape, dpo_loss, pair_sft_loss, sequence_logp


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def compared(chosen_P: Tensor, rejected_P: Tensor, probability_P: Tensor | float = 1.0) -> Compared:
    if isinstance(probability_P, float):
        probability_P = torch.full_like(chosen_P, probability_P, requires_grad=False)
    return Compared(chosen_P=chosen_P, rejected_P=rejected_P, probability_P=probability_P)


def loss_of(
    chosen_P: Tensor, rejected_P: Tensor, probability_P: Tensor | float = 1.0, *, step_pairs: float, **shape: Any
) -> DirectLoss:
    return dpo_loss(compared(chosen_P, rejected_P, probability_P), DirectShape(**shape), step_pairs=step_pairs)


def test_a_sequence_is_the_sum_or_mean_of_its_own_tokens_in_the_mask() -> None:
    logp_N, lengths = normal(9, seed=1), [4, 1, 0, 4]
    mask_N = tensor([1, 0, 1, 1, 0, 0, 1, 1, 0], dtype=torch.bool)
    sums, means, start = [], [], 0
    for length in lengths:
        kept = [logp_N[n].item() for n in range(start, start + length) if mask_N[n]]
        sums.append(sum(kept))
        means.append(sum(kept) / max(1, len(kept)))
        start += length
    assert sequence_logp(logp_N, mask_N, lengths).tolist() == pytest.approx(sums)
    assert sequence_logp(logp_N, mask_N, lengths, average=True).tolist() == pytest.approx(means)


def test_masked_nan_reaches_neither_sum_nor_gradient() -> None:
    logp_N = tensor([-1.0, torch.nan], requires_grad=True)
    logp_B = sequence_logp(logp_N, tensor([True, False]), [2])
    logp_B.sum().backward()
    assert logp_B.tolist() == [-1.0] and logp_N.grad is not None and logp_N.grad.tolist() == [1.0, 0.0]


def test_lengths_that_do_not_cover_the_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths sum to 3 for 2 tokens"):
        sequence_logp(torch.zeros(2), torch.ones(2, dtype=torch.bool), [3])


def pair_cost(form: DirectForm, chosen: float, rejected: float, label: float, *, beta: float, wrong: float) -> float:
    """The papers' losses of one pair, written out: what `chosen` over `rejected` costs, and what the reverse does."""

    def cost(better: float, worse: float) -> float:
        margin = beta * (better - worse)
        if form is DirectForm.HINGE:
            return max(0.0, 1 - margin)
        if form is DirectForm.EXPONENTIAL:
            return math.exp(-margin)
        if form is DirectForm.NCA:
            low, high = beta * worse, beta * better
            return -math.log(sigmoid(high)) - 0.5 * math.log(sigmoid(-high)) - 0.5 * math.log(sigmoid(-low))
        return -math.log(sigmoid(margin))

    if form is DirectForm.IPO:
        smoothed = label * (1 - wrong) + (1 - label) * wrong
        return (chosen - rejected - (2 * smoothed - 1) / (2 * beta)) ** 2
    stays, turns = cost(chosen, rejected), cost(rejected, chosen)
    if form is DirectForm.ROBUST:
        unbiased = ((1 - wrong) * stays - wrong * turns) / (1 - 2 * wrong)
        reverse = ((1 - wrong) * turns - wrong * stays) / (1 - 2 * wrong)
        return label * unbiased + (1 - label) * reverse
    smoothed = label * (1 - wrong) + (1 - label) * wrong
    return smoothed * stays + (1 - smoothed) * turns


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("form", list(DirectForm))
def test_every_form_is_its_formula_with_soft_labels_and_wrong_ones(form: DirectForm) -> None:
    chosen_P, rejected_P = normal(5, seed=3), normal(5, seed=4)
    label_P = tensor([1.0, 0.5, 0.8, 0.0, 1.0], dtype=torch.float64)
    found = loss_of(chosen_P, rejected_P, label_P, beta=0.3, label_smoothing=0.1, form=form, step_pairs=7)
    rows = zip(*(x.tolist() for x in (chosen_P, rejected_P, label_P)), strict=True)
    expected = sum(pair_cost(form, *row, beta=0.3, wrong=0.1) for row in rows) / 7
    assert found.loss.item() == pytest.approx(expected, rel=1e-12)
    assert found.chosen_reward.item() == pytest.approx(0.3 * chosen_P.sum().item())
    assert found.margin.item() == pytest.approx((found.chosen_reward - found.rejected_reward).item())


def test_flipped_labels_cost_the_robust_form_what_the_true_ones_would_and_the_smoothed_one_more() -> None:
    """E over flips with probability e of the robust loss is the loss of the true labels."""
    chosen_P, rejected_P, wrong = normal(6, seed=11), normal(6, seed=12), 0.2
    true = loss_of(chosen_P, rejected_P, beta=0.4, step_pairs=6).loss

    def expected(form: DirectForm) -> Tensor:
        shape = {"beta": 0.4, "form": form, "label_smoothing": wrong, "step_pairs": 6}
        kept, flipped = loss_of(chosen_P, rejected_P, **shape).loss, loss_of(rejected_P, chosen_P, **shape).loss
        return (1 - wrong) * kept + wrong * flipped

    assert_close(expected(DirectForm.ROBUST), true)
    assert (expected(DirectForm.SIGMOID) - true).abs() > 0.01


def test_an_exponential_that_overflows_beside_a_plain_label_is_no_nan() -> None:
    chosen_P, rejected_P = tensor([900.0], requires_grad=True), tensor([-900.0])
    found = loss_of(chosen_P, rejected_P, beta=0.1, form=DirectForm.EXPONENTIAL, step_pairs=1)
    found.loss.backward()
    assert found.loss.item() == 0.0 and chosen_P.grad is not None and chosen_P.grad.item() == 0.0


def test_sft_on_pairs_is_the_mean_negative_log_probability_of_the_better_answers() -> None:
    chosen_P, rejected_P = normal(4, seed=13), normal(4, seed=14)
    label_P = tensor([1.0, 0.5, 0.75, 0.0], dtype=torch.float64)
    rows = zip(*(x.tolist() for x in (chosen_P, rejected_P, label_P)), strict=True)
    expected = -sum(label * chosen + (1 - label) * rejected for chosen, rejected, label in rows) / 9
    assert pair_sft_loss(compared(chosen_P, rejected_P, label_P), step_pairs=9).item() == pytest.approx(expected)


@pytest.mark.parametrize("form", list(DirectForm))
def test_direct_losses_have_the_numerical_gradient(form: DirectForm) -> None:
    def loss(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
        return loss_of(chosen_P, rejected_P, beta=0.2, label_smoothing=0.05, form=form, step_pairs=3).loss

    assert torch.autograd.gradcheck(loss, (normal(4, seed=5), normal(4, seed=6)))


def test_dpo_starts_at_log_two_with_half_beta_as_gradient() -> None:
    chosen_P, rejected_P = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    found = loss_of(chosen_P, rejected_P, beta=0.1, step_pairs=1)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(math.log(2)) and found.correct == 0.5
    assert chosen_P.grad is not None and rejected_P.grad is not None
    assert chosen_P.grad.item() == pytest.approx(-0.05) and rejected_P.grad.item() == pytest.approx(0.05)


def test_dpo_at_its_optimum_holds_the_rewards_that_made_the_labels() -> None:
    # labels from Bradley-Terry on rewards r: the loss is least where beta (h_chosen - h_rejected) = r difference
    beta, difference = 0.4, 1.7
    probability = torch.sigmoid(tensor([difference], dtype=torch.float64))
    chosen_P = tensor([difference / beta], dtype=torch.float64, requires_grad=True)
    loss = loss_of(chosen_P, torch.zeros(1), beta=beta, probability_P=probability, step_pairs=1).loss
    assert_close(torch.autograd.grad(loss, chosen_P)[0], torch.zeros(1, dtype=torch.float64), rtol=0, atol=1e-12)


def test_ipo_is_least_at_half_over_beta_and_smoothing_shrinks_that() -> None:
    beta = 0.25
    for smoothing, optimum in ((0.0, 1 / (2 * beta)), (0.1, 0.8 / (2 * beta)), (0.5, 0.0)):
        gap_P = tensor([optimum], dtype=torch.float64, requires_grad=True)
        found = loss_of(gap_P, torch.zeros(1), beta=beta, label_smoothing=smoothing, form=DirectForm.IPO, step_pairs=1)
        assert found.loss.item() == pytest.approx(0.0)
        away = loss_of(
            gap_P + 0.5, torch.zeros(1), beta=beta, label_smoothing=smoothing, form=DirectForm.IPO, step_pairs=1
        )
        assert away.loss.item() == pytest.approx(0.25)


def test_smoothing_by_e_is_a_soft_label_of_one_minus_e() -> None:
    chosen_P, rejected_P = normal(4, seed=7), normal(4, seed=8)
    soft_P = torch.full((4,), 0.9, dtype=torch.float64)
    smoothed = loss_of(chosen_P, rejected_P, beta=0.5, label_smoothing=0.1, step_pairs=4).loss
    assert_close(smoothed, loss_of(chosen_P, rejected_P, beta=0.5, probability_P=soft_P, step_pairs=4).loss)


def test_micro_batches_of_pairs_add_up_to_the_step() -> None:
    chosen_P, rejected_P = normal(9, seed=9), normal(9, seed=10)

    def loss(rows: slice) -> Tensor:
        return loss_of(chosen_P[rows], rejected_P[rows], beta=0.1, step_pairs=9).loss

    whole, parts = loss(slice(0, 9)), loss(slice(0, 2)) + loss(slice(2, 9))
    assert_close(parts, whole, rtol=0, atol=1e-12)
    gradient, expected = torch.autograd.grad(parts, chosen_P)[0], torch.autograd.grad(whole, chosen_P)[0]
    assert_close(gradient, expected, rtol=0, atol=1e-12)
