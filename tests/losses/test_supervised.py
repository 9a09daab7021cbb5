"""Supervised loss against a loop, with masks and micro-batches."""

from __future__ import annotations

import torch
from torch import tensor
from torch.testing import assert_close

from assent.losses.supervised import supervised_loss


def test_loss_is_the_mean_over_the_tokens_that_count() -> None:
    logp_N = tensor([-1.0, -2.0, -4.0], requires_grad=True)
    found = supervised_loss(logp_N, tensor([True, False, True]), step_tokens=2)
    assert_close(found.loss, tensor(2.5))
    assert_close(torch.autograd.grad(found.loss, logp_N)[0], tensor([-0.5, 0.0, -0.5]))
    assert found.negative_logp == 5.0 and found.tokens == 2


def test_masked_nan_contributes_nothing_to_loss_or_gradient() -> None:
    logp_N = tensor([-1.0, torch.nan, -torch.inf], requires_grad=True)
    found = supervised_loss(logp_N, tensor([True, False, False]), step_tokens=1)
    assert found.loss == 1.0
    assert torch.autograd.grad(found.loss, logp_N)[0].tolist() == [-1.0, 0.0, 0.0]


def test_micro_batches_add_up_to_the_step() -> None:
    logp_N = torch.randn(30, dtype=torch.float64, requires_grad=True)
    mask_N = torch.rand(30) < 0.6
    count = int(mask_N.sum())
    whole = supervised_loss(logp_N, mask_N, step_tokens=count).loss
    parts = sum(supervised_loss(logp_N[s], mask_N[s], step_tokens=count).loss for s in (slice(0, 7), slice(7, 30)))
    assert isinstance(parts, torch.Tensor)
    assert_close(parts, whole, rtol=0, atol=1e-12)
    gradient, expected = torch.autograd.grad(parts, logp_N)[0], torch.autograd.grad(whole, logp_N)[0]
    assert_close(gradient, expected, rtol=0, atol=1e-12)
