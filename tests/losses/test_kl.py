"""KL estimators against sums over every token, and the adaptive coefficient against its formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.advantages import gae
from assent.losses.kl import AdaptiveKL, kl_k1, kl_k2, kl_k3, kl_penalty, own_token_term
from assent.losses.policy import clipped_policy_loss

Estimator = Callable[[Tensor, Tensor], Tensor]
POLICY, REFERENCE = tensor([0.7, 0.2, 0.1], dtype=torch.float64), tensor([0.4, 0.4, 0.2], dtype=torch.float64)


def kl(first_V: Tensor, second_V: Tensor) -> Tensor:
    return (first_V * (first_V.log() - second_V.log())).sum(-1)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_expectation_over_every_token_is_the_exact_kl(estimator: Estimator) -> None:
    mean = (POLICY * estimator(POLICY.log(), REFERENCE.log())).sum()
    assert_close(mean, kl(POLICY, REFERENCE))


def test_k2_is_the_kl_to_second_order_and_biased_beyond() -> None:
    near = POLICY + 1e-4 * tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    assert_close((POLICY * kl_k2(POLICY.log(), near.log())).sum(), kl(POLICY, near), rtol=1e-3, atol=0)
    far = POLICY.flip(0)
    assert abs((POLICY * kl_k2(POLICY.log(), far.log())).sum() - kl(POLICY, far)) > 0.1


def test_k2_and_k3_are_never_negative_where_k1_is() -> None:
    assert (kl_k1(POLICY.log(), REFERENCE.log()) < 0).any()
    assert (kl_k2(POLICY.log(), REFERENCE.log()) >= 0).all()
    assert (kl_k3(POLICY.log(), REFERENCE.log()) >= 0).all()


def expected_gradient(estimator: Estimator, logit_V: Tensor) -> Tensor:
    """E over x ~ p of the gradient of the estimate at x, with the sampling itself held fixed."""
    logp_V = logit_V.log_softmax(0)
    return torch.autograd.grad((logp_V.detach().exp() * estimator(logp_V, REFERENCE.log())).sum(), logit_V)[0]


def test_gradients_in_a_loss_are_zero_for_k1_the_kls_for_k2_and_the_reversed_kls_for_k3() -> None:
    logit_V = POLICY.log().clone().requires_grad_()
    policy_V = logit_V.softmax(0)
    forward = torch.autograd.grad(kl(policy_V, REFERENCE), logit_V, retain_graph=True)[0]
    reverse = torch.autograd.grad(kl(REFERENCE, policy_V), logit_V)[0]
    assert_close(expected_gradient(kl_k1, logit_V), torch.zeros(3, dtype=torch.float64))
    assert_close(expected_gradient(kl_k2, logit_V), forward)
    assert_close(expected_gradient(kl_k3, logit_V), reverse)
    assert (forward - reverse).abs().max() > 0.01  # the three really differ here


def expected_reinforce(penalty_V: Tensor, logit_V: Tensor) -> Tensor:
    """E over x ~ p of penalty(x) grad log p(x): what a policy gradient makes of a penalty in the reward."""
    logp_V = logit_V.log_softmax(0)
    return torch.autograd.grad((logp_V.detach().exp() * penalty_V.detach() * logp_V).sum(), logit_V)[0]


def test_in_the_reward_only_k1_has_the_gradient_of_the_kl_and_the_exact_kl_has_none_of_its_own_position() -> None:
    logit_V = POLICY.log().clone().requires_grad_()
    policy_V, log_q_V = logit_V.softmax(0), REFERENCE.log()
    forward = torch.autograd.grad(kl(policy_V, REFERENCE), logit_V, retain_graph=True)[0]
    reverse = torch.autograd.grad(kl(REFERENCE, policy_V), logit_V)[0]
    exact_V = kl(POLICY, REFERENCE).expand(3)
    assert_close(expected_reinforce(kl_k1(POLICY.log(), log_q_V), logit_V), forward)
    assert_close(expected_reinforce(kl_k3(POLICY.log(), log_q_V), logit_V), forward - reverse)
    assert_close(expected_reinforce(exact_V, logit_V), torch.zeros(3, dtype=torch.float64))
    term_V = own_token_term(exact_V, POLICY.log(), log_q_V, coefficient=1.0)
    assert_close(expected_reinforce(-term_V - exact_V, logit_V), forward)
    assert_close((POLICY * term_V).sum().item(), 0.0)


def test_exact_kl_in_the_reward_with_the_own_token_term_is_the_gradient_of_reward_less_kl_of_whole_sequences() -> None:
    # every sequence of two tokens out of three, each with its probability: the objective is known in full
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    first_V, second_VV = normal(3).requires_grad_(), normal(3, 3).requires_grad_()
    log_q_V, log_q_VV, reward_VV = normal(3).log_softmax(0), normal(3, 3).log_softmax(1), normal(3, 3)
    beta = 0.3
    logp_V, logp_VV = first_V.log_softmax(0), second_VV.log_softmax(1)
    sequence_VV = logp_V[:, None] + logp_VV
    distance_VV = sequence_VV - log_q_V[:, None] - log_q_VV
    objective = (sequence_VV.exp() * (reward_VV - beta * distance_VV)).sum()
    truth = torch.autograd.grad(objective, [first_V, second_VV], retain_graph=True)

    def gradient(with_term: bool) -> tuple[Tensor, ...]:
        logp_N = torch.stack([torch.stack([logp_V[a], logp_VV[a, b]]) for a in range(3) for b in range(3)]).flatten()
        log_q_N = torch.stack([torch.stack([log_q_V[a], log_q_VV[a, b]]) for a in range(3) for b in range(3)]).flatten()
        kl_VV = kl(logp_VV.exp(), log_q_VV.exp())[:, None].expand(3, 3)
        kl_N = torch.stack([kl(logp_V.exp(), log_q_V.exp()).expand(3, 3), kl_VV], dim=2).flatten().detach()
        reward_N = -beta * kl_N
        reward_N[1::2] += reward_VV.flatten()
        advantage_N, _ = gae(reward_N, torch.zeros_like(reward_N), [2] * 9, gamma=1.0, gae_lambda=1.0)
        if with_term:
            advantage_N = advantage_N + own_token_term(kl_N, logp_N, log_q_N, coefficient=beta)
        chance_N = sequence_VV.detach().exp().flatten().repeat_interleave(2)
        mask_N = torch.ones(18, dtype=torch.bool)
        loss = clipped_policy_loss(
            logp_N,
            logp_N.detach(),
            chance_N * advantage_N,
            mask_N,
            clip_range_low=0.2,
            clip_range_high=0.2,
            step_tokens=1,
        ).loss
        return torch.autograd.grad(-loss, [first_V, second_VV], retain_graph=True)

    for found, expected in zip(gradient(with_term=True), truth, strict=True):
        assert_close(found, expected)
    assert (gradient(with_term=False)[1] - truth[1]).abs().max() > 0.01  # the term is needed


def test_penalty_counts_only_tokens_in_the_mask_even_beside_nan() -> None:
    kl_N = tensor([0.5, torch.nan, 0.25], requires_grad=True)
    penalty = kl_penalty(kl_N, tensor([True, False, True]), step_tokens=3)
    assert_close(penalty, tensor(0.25))
    assert_close(torch.autograd.grad(penalty, kl_N)[0], tensor([1 / 3, 0.0, 1 / 3]))


def test_adaptive_coefficient_moves_in_proportion_to_the_error_and_at_most_by_the_limit() -> None:
    start = AdaptiveKL(coefficient=0.2, target=6.0, horizon=1000)
    # 10 % above the target, 50 of 1000 sequences: a factor 1 + 0.1 * 50 / 1000
    assert start.updated(6.6, 50).coefficient == pytest.approx(0.2 * 1.005)
    assert start.updated(6.0, 50).coefficient == pytest.approx(0.2)
    assert start.updated(600.0, 50).coefficient == pytest.approx(0.2 * 1.01)
    assert start.updated(0.0, 50).coefficient == pytest.approx(0.2 * 0.99)


def test_adaptive_coefficient_finds_the_one_that_holds_the_target() -> None:
    # a policy whose KL is 1.5 / coefficient holds the target 6 at coefficient 0.25
    controller = AdaptiveKL(coefficient=2.0, target=6.0, horizon=1000)
    for _ in range(2000):
        controller = controller.updated(1.5 / controller.coefficient, 20)
    assert controller.coefficient == pytest.approx(0.25, rel=1e-3)


def test_without_a_target_the_coefficient_stays() -> None:
    controller = AdaptiveKL(coefficient=0.1, target=None, horizon=1000)
    assert controller.updated(3.3, 17) == controller
