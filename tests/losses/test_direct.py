"""DPO and IPO against slow loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.direct import DirectForm, dpo_loss, sequence_log_ratio


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_sequence_ratio_is_the_sum_or_mean_of_its_own_tokens_in_the_mask() -> None:
    logp_N, reference_N, lengths = normal(9, seed=1), normal(9, seed=2), [4, 1, 0, 4]
    mask_N = tensor([1, 0, 1, 1, 0, 0, 1, 1, 0], dtype=torch.bool)
    sums, means, start = [], [], 0
    for length in lengths:
        kept = [(logp_N[n] - reference_N[n]).item() for n in range(start, start + length) if mask_N[n]]
        sums.append(sum(kept))
        means.append(sum(kept) / max(1, len(kept)))
        start += length
    assert sequence_log_ratio(logp_N, reference_N, mask_N, lengths).tolist() == pytest.approx(sums)
    assert sequence_log_ratio(logp_N, reference_N, mask_N, lengths, average=True).tolist() == pytest.approx(means)


def test_masked_nan_reaches_neither_ratio_nor_gradient_and_the_reference_none() -> None:
    logp_N, reference_N = tensor([-1.0, torch.nan], requires_grad=True), tensor([-2.0, -1.0], requires_grad=True)
    ratio_B = sequence_log_ratio(logp_N, reference_N, tensor([True, False]), [2])
    ratio_B.sum().backward()
    assert ratio_B.tolist() == [1.0]
    assert logp_N.grad is not None and logp_N.grad.tolist() == [1.0, 0.0] and reference_N.grad is None


def test_lengths_that_do_not_cover_the_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths sum to 3 for 2 tokens"):
        sequence_log_ratio(torch.zeros(2), torch.zeros(2), torch.ones(2, dtype=torch.bool), [3])


def test_dpo_is_its_formula_with_soft_labels_and_smoothing() -> None:
    chosen_P, rejected_P = normal(5, seed=3), normal(5, seed=4)
    label_P = tensor([1.0, 0.5, 0.8, 0.0, 1.0], dtype=torch.float64)
    found = dpo_loss(chosen_P, rejected_P, beta=0.3, label_smoothing=0.1, probability_P=label_P, step_pairs=7)
    total = 0.0
    for chosen, rejected, label in zip(*(x.tolist() for x in (chosen_P, rejected_P, label_P)), strict=True):
        smoothed = label * 0.9 + (1 - label) * 0.1
        better = 1 / (1 + math.exp(-0.3 * (chosen - rejected)))
        total -= smoothed * math.log(better) + (1 - smoothed) * math.log(1 - better)
    assert found.loss.item() == pytest.approx(total / 7)
    assert found.chosen_reward.item() == pytest.approx(0.3 * chosen_P.sum().item())
    assert found.margin.item() == pytest.approx((found.chosen_reward - found.rejected_reward).item())


@pytest.mark.parametrize("form", list(DirectForm))
def test_direct_losses_have_the_numerical_gradient(form: DirectForm) -> None:
    def loss(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
        return dpo_loss(chosen_P, rejected_P, beta=0.2, label_smoothing=0.05, form=form, step_pairs=3).loss

    assert torch.autograd.gradcheck(loss, (normal(4, seed=5), normal(4, seed=6)))


def test_dpo_starts_at_log_two_with_half_beta_as_gradient() -> None:
    chosen_P, rejected_P = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    found = dpo_loss(chosen_P, rejected_P, beta=0.1, step_pairs=1)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(math.log(2)) and found.correct == 0.5
    assert chosen_P.grad is not None and rejected_P.grad is not None
    assert chosen_P.grad.item() == pytest.approx(-0.05) and rejected_P.grad.item() == pytest.approx(0.05)


def test_dpo_at_its_optimum_holds_the_rewards_that_made_the_labels() -> None:
    # labels from Bradley-Terry on rewards r: the loss is least where beta (h_chosen - h_rejected) = r difference
    beta, difference = 0.4, 1.7
    probability = torch.sigmoid(tensor([difference], dtype=torch.float64))
    chosen_P = tensor([difference / beta], dtype=torch.float64, requires_grad=True)
    loss = dpo_loss(chosen_P, torch.zeros(1), beta=beta, probability_P=probability, step_pairs=1).loss
    assert_close(torch.autograd.grad(loss, chosen_P)[0], torch.zeros(1, dtype=torch.float64), rtol=0, atol=1e-12)


def test_ipo_is_least_at_half_over_beta_and_smoothing_shrinks_that() -> None:
    beta = 0.25
    for smoothing, optimum in ((0.0, 1 / (2 * beta)), (0.1, 0.8 / (2 * beta)), (0.5, 0.0)):
        gap_P = tensor([optimum], dtype=torch.float64, requires_grad=True)
        found = dpo_loss(gap_P, torch.zeros(1), beta=beta, label_smoothing=smoothing, form=DirectForm.IPO, step_pairs=1)
        assert found.loss.item() == pytest.approx(0.0)
        away = dpo_loss(
            gap_P + 0.5, torch.zeros(1), beta=beta, label_smoothing=smoothing, form=DirectForm.IPO, step_pairs=1
        )
        assert away.loss.item() == pytest.approx(0.25)


def test_smoothing_by_e_is_a_soft_label_of_one_minus_e() -> None:
    chosen_P, rejected_P = normal(4, seed=7), normal(4, seed=8)
    soft_P = torch.full((4,), 0.9, dtype=torch.float64)
    smoothed = dpo_loss(chosen_P, rejected_P, beta=0.5, label_smoothing=0.1, step_pairs=4).loss
    assert_close(smoothed, dpo_loss(chosen_P, rejected_P, beta=0.5, probability_P=soft_P, step_pairs=4).loss)


def test_micro_batches_of_pairs_add_up_to_the_step() -> None:
    chosen_P, rejected_P = normal(9, seed=9), normal(9, seed=10)

    def loss(rows: slice) -> Tensor:
        return dpo_loss(chosen_P[rows], rejected_P[rows], beta=0.1, step_pairs=9).loss

    whole, parts = loss(slice(0, 9)), loss(slice(0, 2)) + loss(slice(2, 9))
    assert_close(parts, whole, rtol=0, atol=1e-12)
    gradient, expected = torch.autograd.grad(parts, chosen_P)[0], torch.autograd.grad(whole, chosen_P)[0]
    assert_close(gradient, expected, rtol=0, atol=1e-12)
