"""KTO against a slow loop, its paper's value function, and its limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.unpaired import KTOShape, kto_loss

SHAPE = KTOShape(beta=0.3, desirable_weight=1.5, undesirable_weight=0.8)
LABEL_B = tensor([1.0, 0.0, 0.0, 1.0, 0.7, 0.0], dtype=torch.float64)


def ratios(seed: int, count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(count, generator=generator, dtype=torch.float64)).requires_grad_()


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_kto_is_lambda_less_the_value_of_the_paper_with_soft_labels() -> None:
    ratio_B, point = ratios(1), 0.6
    found = kto_loss(ratio_B, LABEL_B, point, SHAPE, step_count=9)
    total = 0.0
    for ratio, label in zip(ratio_B.tolist(), LABEL_B.tolist(), strict=True):
        good, bad = 1.5 * sigmoid(0.3 * (ratio - point)), 0.8 * sigmoid(0.3 * (point - ratio))
        total += label * (1.5 - good) + (1 - label) * (0.8 - bad)
    assert found.loss.item() == pytest.approx(total / 9, rel=1e-12)


def test_kto_has_the_numerical_gradient() -> None:
    assert torch.autograd.gradcheck(
        lambda ratio_B: kto_loss(ratio_B, LABEL_B, 0.6, SHAPE, step_count=2).loss, ratios(2)
    )


def test_the_gradient_is_largest_at_the_reference_point_and_vanishes_far_from_it() -> None:
    """d loss / d h = -/+ weight beta s (1 - s), at most beta / 4, at h = z."""
    for label, sign in ((1.0, -1.0), (0.0, 1.0)):
        ratio_B = tensor([2.0, 2.0 + 200, 2.0 - 200], dtype=torch.float64, requires_grad=True)
        loss = kto_loss(ratio_B, torch.full((3,), label).double(), 2.0, KTOShape(beta=0.4), step_count=1).loss
        (gradient_B,) = torch.autograd.grad(loss, ratio_B)
        assert gradient_B.tolist() == pytest.approx([sign * 0.1, 0.0, 0.0], abs=1e-12)


def test_a_gain_that_rounds_to_one_still_has_its_gradient_in_float32() -> None:
    """1 - s(20) is 0 in float32, and so would be the gradient; s(-20) is 2e-9."""
    ratio_B = tensor([20.0], requires_grad=True)
    loss = kto_loss(ratio_B, torch.ones(1), 0.0, KTOShape(beta=1.0), step_count=1).loss
    assert loss.item() == pytest.approx(math.exp(-20), rel=1e-5)
    assert torch.autograd.grad(loss, ratio_B)[0].item() == pytest.approx(-math.exp(-20), rel=1e-5)


def test_answers_count_as_right_by_their_side_of_the_reference_point() -> None:
    ratio_B, label_B = tensor([3.0, 1.0, 3.0, 1.0, 2.0]), tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    assert kto_loss(ratio_B, label_B, 2.0, SHAPE, step_count=5).correct.item() == 2.5


def test_micro_batches_add_up_to_the_step_because_they_share_the_reference_point() -> None:
    ratio_B = ratios(3)
    whole = kto_loss(ratio_B, LABEL_B, 0.4, SHAPE, step_count=6).loss
    parts = [kto_loss(ratio_B[part], LABEL_B[part], 0.4, SHAPE, step_count=6).loss for part in (slice(1), slice(1, 6))]
    assert_close(torch.stack(parts).sum(), whole, rtol=0, atol=1e-12)
