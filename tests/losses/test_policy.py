"""PPO's losses against loops, against REINFORCE and against the meaning of the clip."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.policy import PolicyLoss, clipped_policy_loss, clipped_value_loss, entropy_bonus, sampler_weight

CLIP_LOW, CLIP_HIGH = 0.2, 0.3


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def policy_loss(
    logp_N: Tensor, old_N: Tensor, advantage_N: Tensor, mask_N: Tensor | None = None, count: float = 1
) -> PolicyLoss:
    mask_N = torch.ones_like(logp_N, dtype=torch.bool) if mask_N is None else mask_N
    return clipped_policy_loss(
        logp_N, old_N, advantage_N, mask_N, clip_range_low=CLIP_LOW, clip_range_high=CLIP_HIGH, step_tokens=count
    )


def test_policy_loss_is_its_formula_token_by_token() -> None:
    logp_N, old_N, advantage_N = normal(40, seed=1), normal(40, seed=2), normal(40, seed=3)
    mask_N = torch.rand(40, generator=torch.Generator().manual_seed(4)) < 0.7
    found = policy_loss(logp_N, old_N, advantage_N, mask_N, count=50)
    total = clipped = ratios = 0.0
    for n in range(40):
        if not mask_N[n]:
            continue
        ratio, advantage = math.exp(logp_N[n].item() - old_N[n].item()), advantage_N[n].item()
        bounded = min(max(ratio, 1 - CLIP_LOW), 1 + CLIP_HIGH)
        total += min(ratio * advantage, bounded * advantage)
        clipped += bounded * advantage < ratio * advantage
        ratios += ratio
    assert found.loss.item() == pytest.approx(-total / 50)
    assert found.clipped == clipped and 0 < clipped < mask_N.sum()
    assert found.ratio.item() == pytest.approx(ratios)


def test_at_ratio_one_the_gradient_is_reinforce() -> None:
    # sampled tokens of a categorical policy: grad of -(1/N) sum A log pi(token)
    logit_V, token_N, advantage_N = normal(5, seed=5), tensor([0, 3, 3, 1]), normal(4, seed=6).detach()
    logp_N = logit_V.log_softmax(0)[token_N]
    clipped = torch.autograd.grad(policy_loss(logp_N, logp_N.detach(), advantage_N, count=4).loss, logit_V)[0]
    again_N = logit_V.log_softmax(0)[token_N]
    reinforce = torch.autograd.grad(-(advantage_N * again_N).sum() / 4, logit_V)[0]
    assert_close(clipped, reinforce)


def test_expected_gradient_at_ratio_one_is_the_gradient_of_the_expected_reward() -> None:
    # every token of the vocabulary, each with its probability: no sampling error is left
    logit_V, reward_V = normal(5, seed=7), normal(5, seed=8).detach()
    logp_V = logit_V.log_softmax(0)
    weighted_V = reward_V * logp_V.detach().exp()
    found = torch.autograd.grad(policy_loss(logp_V, logp_V.detach(), weighted_V).loss, logit_V)[0]
    truth = torch.autograd.grad(-(logit_V.softmax(0) * reward_V).sum(), logit_V)[0]
    assert_close(found, truth)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.25, 1.0, True),
        (1.35, 1.0, False),
        (0.5, 1.0, True),
        (0.85, -1.0, True),
        (0.75, -1.0, False),
        (2.0, -1.0, True),
    ],
)
def test_clip_stops_only_steps_that_already_went_far_enough(ratio: float, advantage: float, moves: bool) -> None:
    logp_N = tensor([math.log(ratio)], requires_grad=True)
    found = policy_loss(logp_N, torch.zeros(1), tensor([advantage]))
    gradient = torch.autograd.grad(found.loss, logp_N)[0].item()
    assert gradient == pytest.approx(-ratio * advantage if moves else 0.0)
    assert found.clipped == (not moves)


def test_masked_nan_contributes_nothing_to_policy_loss_or_gradient() -> None:
    logp_N = tensor([-1.0, torch.nan, -2.0, 100.0], requires_grad=True)
    mask_N = tensor([True, False, False, False])
    found = policy_loss(logp_N, tensor([-1.1, 0.0, torch.nan, -900.0]), tensor([2.0, 1.0, torch.nan, 1.0]), mask_N)
    gradient_N = torch.autograd.grad(found.loss, logp_N)[0]
    assert found.loss.item() == pytest.approx(-2.0 * math.exp(0.1))
    assert gradient_N.tolist() == pytest.approx([-2.0 * math.exp(0.1), 0.0, 0.0, 0.0])
    assert found.ratio.isfinite()


def test_micro_batches_of_tokens_add_up_to_the_step() -> None:
    logp_N, old_N, advantage_N = normal(30, seed=9), normal(30, seed=10), normal(30, seed=11)
    value_N, old_value_N, return_N = normal(30, seed=12), normal(30, seed=13), normal(30, seed=14)
    mask_N = torch.rand(30, generator=torch.Generator().manual_seed(15)) < 0.7
    count = float(mask_N.sum())

    def loss(rows: slice) -> Tensor:
        mask = mask_N[rows]
        policy = policy_loss(logp_N[rows], old_N[rows], advantage_N[rows], mask, count=count).loss
        value = clipped_value_loss(value_N[rows], old_value_N[rows], return_N[rows], mask, clip=0.2, step_tokens=count)
        return policy + value - 0.1 * entropy_bonus(logp_N[rows].exp(), mask, step_tokens=count)

    whole, parts = loss(slice(0, 30)), loss(slice(0, 11)) + loss(slice(11, 12)) + loss(slice(12, 30))
    assert_close(parts, whole, rtol=0, atol=1e-12)
    for gradient, expected in zip(
        torch.autograd.grad(parts, [logp_N, value_N]), torch.autograd.grad(whole, [logp_N, value_N]), strict=True
    ):
        assert_close(gradient, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_value_loss_is_its_formula_token_by_token(clip: float | None) -> None:
    value_N, old_N, return_N = normal(40, seed=16), normal(40, seed=17), normal(40, seed=18)
    mask_N = torch.rand(40, generator=torch.Generator().manual_seed(19)) < 0.7
    found = clipped_value_loss(value_N, old_N, return_N, mask_N, clip=clip, step_tokens=50)
    total, clipped = 0.0, 0
    for n in range(40):
        if not mask_N[n]:
            continue
        value, old, target = value_N[n].item(), old_N[n].item(), return_N[n].item()
        near = value if clip is None else old + min(max(value - old, -clip), clip)
        total += max((value - target) ** 2, (near - target) ** 2) / 2
        clipped += (near - target) ** 2 > (value - target) ** 2
    assert found.item() == pytest.approx(total / 50) and (clip is None or clipped > 0)


def test_value_loss_has_the_numerical_gradient_and_ignores_masked_nan() -> None:
    old_N, return_N = normal(6, seed=20).detach(), normal(6, seed=21).detach()
    mask_N = tensor([True, True, False, True, True, True])

    def loss(value_N: Tensor) -> Tensor:
        return clipped_value_loss(value_N, old_N, return_N, mask_N, clip=0.2, step_tokens=5)

    value_N = normal(6, seed=22)
    assert torch.autograd.gradcheck(loss, (value_N,))
    return_N[2] = old_N[2] = torch.nan
    gradient_N = torch.autograd.grad(loss(value_N), value_N)[0]
    assert gradient_N.isfinite().all() and gradient_N[2] == 0


def test_entropy_bonus_is_the_mean_entropy_of_the_tokens_that_count() -> None:
    entropy_N = tensor([1.0, torch.nan, 3.0], requires_grad=True)
    bonus = entropy_bonus(entropy_N, tensor([True, False, True]), step_tokens=2)
    assert bonus == 2.0
    assert torch.autograd.grad(bonus, entropy_N)[0].tolist() == [0.5, 0.0, 0.5]


def test_sampler_weights_turn_the_samplers_expectation_into_the_learners() -> None:
    learner_V, sampler_V = normal(5, seed=23).softmax(0), normal(5, seed=24).softmax(0)
    value_V = normal(5, seed=25).detach()
    weight_V = sampler_weight(learner_V.log(), sampler_V.log(), cap=math.inf)
    assert_close((sampler_V * weight_V * value_V).sum(), (learner_V * value_V).sum())
    assert not weight_V.requires_grad
    assert_close(sampler_weight(learner_V.log(), sampler_V.log(), cap=1.1), weight_V.clamp(max=1.1))
    assert (sampler_weight(learner_V.log(), learner_V.log(), cap=2.0) == 1).all()


def test_weight_on_the_advantage_is_weight_on_the_objective() -> None:
    logp_N, old_N, advantage_N = normal(20, seed=26), normal(20, seed=27), normal(20, seed=28).detach()
    weight_N = torch.rand(20, dtype=torch.float64) * 2
    weighted = policy_loss(logp_N, old_N, weight_N * advantage_N).loss
    each = [policy_loss(logp_N[n : n + 1], old_N[n : n + 1], advantage_N[n : n + 1]).loss for n in range(20)]
    assert_close(weighted, (weight_N * torch.stack(each)).sum())
