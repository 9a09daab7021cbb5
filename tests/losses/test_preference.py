"""Reward-model losses against worked numbers, enumeration and slow loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, permutations, product

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.preference import (
    TIED_LIMIT,
    binary_loss,
    bradley_terry_loss,
    plackett_luce_loss,
)


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_reward_08_over_02_costs_0437_and_02_over_08_costs_1037() -> None:
    high, low = tensor([0.8]), tensor([0.2])
    right = bradley_terry_loss(high, low, step_pairs=1).loss.item()
    wrong = bradley_terry_loss(low, high, step_pairs=1).loss.item()
    assert right == pytest.approx(0.437, abs=5e-4) and right == pytest.approx(-math.log(1 / (1 + math.exp(-0.6))))
    assert wrong == pytest.approx(1.037, abs=5e-4) and wrong == pytest.approx(right + 0.6)


def test_soft_labels_margin_and_centring_are_their_formula() -> None:
    chosen_P, rejected_P = normal(6, seed=1), normal(6, seed=2)
    probability_P = tensor([1.0, 0.5, 0.0, 0.7, 0.9, 1.0], dtype=torch.float64)
    margin_P = tensor([0.0, 0.0, 0.0, 0.3, 1.0, 2.0], dtype=torch.float64)
    loss = bradley_terry_loss(
        chosen_P, rejected_P, probability_P=probability_P, margin_P=margin_P, centre=0.01, step_pairs=9
    ).loss
    total = 0.0
    for chosen, rejected, label, margin in zip(
        *(x.tolist() for x in (chosen_P, rejected_P, probability_P, margin_P)), strict=True
    ):
        better = 1 / (1 + math.exp(-(chosen - rejected - margin)))
        total -= label * math.log(better) + (1 - label) * math.log(1 - better)
        total += 0.01 * (chosen + rejected) ** 2
    assert loss.item() == pytest.approx(total / 9)


def test_pair_loss_has_the_numerical_gradient() -> None:
    label_P, margin_P = torch.rand(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)

    def loss(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
        return bradley_terry_loss(
            chosen_P, rejected_P, probability_P=label_P, margin_P=margin_P, centre=0.1, step_pairs=5
        ).loss

    assert torch.autograd.gradcheck(loss, (normal(5, seed=3), normal(5, seed=4)))


def test_soft_label_is_the_mean_over_the_people_it_summarises() -> None:
    # three of four people say the first is better
    first, second = tensor([0.3]), tensor([-0.4])
    votes = [bradley_terry_loss(first, second, step_pairs=4).loss] * 3
    votes.append(bradley_terry_loss(second, first, step_pairs=4).loss)
    soft = bradley_terry_loss(first, second, probability_P=tensor([0.75]), step_pairs=1).loss
    assert_close(soft, torch.stack(votes).sum())


def test_centring_has_no_gradient_once_rewards_sum_to_zero_and_pulls_otherwise() -> None:
    pair = tensor([1.0], requires_grad=True), tensor([-1.0], requires_grad=True)
    for chosen, expected in ((0.0, 0.0), (1.0, 2 * 0.5 * 1.0)):
        moved = pair[0] + chosen
        with_centre = bradley_terry_loss(moved, pair[1], centre=0.5, step_pairs=1).loss
        without = bradley_terry_loss(moved, pair[1], step_pairs=1).loss
        assert torch.autograd.grad(with_centre - without, pair[1])[0].item() == pytest.approx(expected)


def test_accuracy_counts_ties_on_either_side_as_half() -> None:
    chosen_P, rejected_P = tensor([2.0, 1.0, 1.0, 5.0, 0.0]), tensor([1.0, 2.0, 1.0, 0.0, 1.0])
    assert bradley_terry_loss(chosen_P, rejected_P, step_pairs=5).correct == 2.5
    labels_P = tensor([1.0, 0.0, 1.0, 0.5, 0.2])
    found = bradley_terry_loss(chosen_P, rejected_P, probability_P=labels_P, step_pairs=5)
    assert found.correct == 1 + 1 + 0.5 + 0.5 + 1
    assert found.margin == 1 - 1 + 0 + 5 - 1 and found.squared_sum == 9 + 9 + 4 + 25 + 1


def order_probability(reward_K: Sequence[float], order: Sequence[int]) -> float:
    """Plackett-Luce by hand: the next best is drawn from those left, in proportion to exp reward."""
    probability, left = 1.0, list(order)
    for index in order:
        probability *= math.exp(reward_K[index]) / sum(math.exp(reward_K[other]) for other in left)
        left.remove(index)
    return probability


def ranks_of(order: Sequence[int]) -> tuple[int, ...]:
    ranks = [0] * len(order)
    for place, index in enumerate(order):
        ranks[index] = place + 1
    return tuple(ranks)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_rankings_have_the_enumerated_probabilities_and_these_sum_to_one(size: int) -> None:
    reward_K = normal(size, seed=size).detach()
    total = 0.0
    for order in permutations(range(size)):
        loss = plackett_luce_loss(reward_K, [ranks_of(order)], step_rankings=1).loss.item()
        assert loss == pytest.approx(-math.log(order_probability(reward_K.tolist(), order)))
        total += math.exp(-loss)
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_ties_cost_the_mean_over_every_order_of_the_tied(size: int) -> None:
    reward_K = normal(size, seed=10 + size)
    for ranks in product(range(1, size + 1), repeat=size):
        agreeing = [
            order for order in permutations(range(size)) if all(ranks[a] <= ranks[b] for a, b in pairwise(order))
        ]
        each = [plackett_luce_loss(reward_K, [ranks_of(order)], step_rankings=1).loss for order in agreeing]
        expected = torch.stack(each).mean()
        found = plackett_luce_loss(reward_K, [ranks], step_rankings=1).loss
        assert_close(found, expected)
        assert_close(torch.autograd.grad(found, reward_K)[0], torch.autograd.grad(expected, reward_K)[0])


def test_rankings_of_two_are_bradley_terry_pairs_and_a_tie_is_one_half() -> None:
    reward_N = normal(2, seed=20)
    for ranks, label in (((1, 2), 1.0), ((2, 1), 0.0), ((1, 1), 0.5)):
        pair = bradley_terry_loss(reward_N[:1], reward_N[1:], probability_P=tensor([label]), step_pairs=1).loss
        assert_close(plackett_luce_loss(reward_N, [ranks], step_rankings=1).loss, pair, check_dtype=False)


def test_rankings_of_unequal_length_add_up_with_the_numerical_gradient() -> None:
    reward_N, ranks = normal(9, seed=21), [(2, 1, 3, 3), (1,), (4, 9), (1, 1)]

    def loss(reward_N: Tensor) -> Tensor:
        return plackett_luce_loss(reward_N, ranks, step_rankings=4).loss

    parts = reward_N.split([4, 1, 2, 2])
    single = [plackett_luce_loss(part, [rank], step_rankings=4).loss for part, rank in zip(parts, ranks, strict=True)]
    assert_close(loss(reward_N), torch.stack(single).sum(), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(loss, (reward_N,))


def test_ranking_diagnostics_count_ordered_pairs_only() -> None:
    found = plackett_luce_loss(tensor([3.0, 2.0, 2.0, 0.0]), [(1, 2, 2), (1,)], step_rankings=2)
    assert found.pairs == 2 and found.correct == 2
    found = plackett_luce_loss(tensor([1.0, 1.0, 5.0]), [(1, 2, 3)], step_rankings=1)
    assert found.pairs == 3 and found.correct == 0.5


def test_rankings_that_do_not_fit_the_rewards_are_refused() -> None:
    with pytest.raises(ValueError, match="3 ranks for 2 rewards"):
        plackett_luce_loss(torch.zeros(2), [(1, 2, 3)], step_rankings=1)
    with pytest.raises(ValueError, match="share rank 1"):
        plackett_luce_loss(torch.zeros(TIED_LIMIT + 1), [(1,) * (TIED_LIMIT + 1)], step_rankings=1)
    assert plackett_luce_loss(torch.zeros(0), [], step_rankings=1).loss == 0


def test_large_rewards_stay_finite() -> None:
    pair = bradley_terry_loss(tensor([1e4]), tensor([-1e4]), probability_P=tensor([0.0]), step_pairs=1)
    assert pair.loss == 2e4
    ranking = plackett_luce_loss(tensor([-1e4, 1e4, 0.0]), [(1, 2, 2)], step_rankings=1)
    assert ranking.loss.isfinite()


def test_binary_loss_is_the_cross_entropy_of_its_labels() -> None:
    logit_B, label_B = normal(5, seed=30), tensor([1.0, 0.0, 1.0, 0.25, 0.5], dtype=torch.float64)
    found = binary_loss(logit_B, label_B, step_count=8)
    total = 0.0
    for logit, label in zip(logit_B.tolist(), label_B.tolist(), strict=True):
        good = 1 / (1 + math.exp(-logit))
        total -= label * math.log(good) + (1 - label) * math.log(1 - good)
    assert found.loss.item() == pytest.approx(total / 8)
    gradient = torch.autograd.grad(found.loss, logit_B)[0]
    assert_close(gradient, (logit_B.detach().sigmoid() - label_B) / 8)
    assert binary_loss(tensor([2.0, -2.0, 2.0]), tensor([1, 0, 0]), step_count=3).correct == 2


def test_micro_batches_of_pairs_add_up_to_the_step() -> None:
    chosen_P, rejected_P = normal(12, seed=40), normal(12, seed=41)

    def loss(rows: slice) -> Tensor:
        return bradley_terry_loss(chosen_P[rows], rejected_P[rows], centre=0.01, step_pairs=12).loss

    whole, parts = loss(slice(0, 12)), loss(slice(0, 5)) + loss(slice(5, 12))
    assert_close(parts, whole, rtol=0, atol=1e-12)
    gradient, expected = torch.autograd.grad(parts, chosen_P)[0], torch.autograd.grad(whole, chosen_P)[0]
    assert_close(gradient, expected, rtol=0, atol=1e-12)
