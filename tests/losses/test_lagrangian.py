"""The Lagrangian against enumeration and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from policy_batches import advantages_of, drawn, experience_of, loss_of, method_of
from torch.testing import assert_close

from assent.losses.lagrangian import LARGEST, LagrangeMultiplier, advantage_under_budget


def test_the_expected_gradient_is_that_of_the_lagrangian_over_every_token() -> None:
    """At ratio 1, sum_v pi_v grad log pi_v A_v is the gradient of (E[r] - lambda E[c]) / (1 + lambda)."""
    reward_V, cost_V, multiplier = drawn(6, 1), drawn(6, 2), 1.7
    logits_V = drawn(6, 3).requires_grad_()
    logp_V = torch.log_softmax(logits_V, 0)
    chance_V = logp_V.exp().detach()
    truth = (logp_V.exp() * (reward_V - multiplier * cost_V)).sum() / (1 + multiplier)
    advantage_V = advantage_under_budget(
        reward_V - (chance_V * reward_V).sum(), cost_V - (chance_V * cost_V).sum(), multiplier
    )
    experience = experience_of([1] * 6, {"logp": logp_V.detach(), "advantage": 6 * chance_V * advantage_V})
    values = {name: torch.zeros(6, dtype=torch.float64) for name in ("value", "cost_value", "return", "cost_return")}
    experience = experience.with_columns(values)
    outputs = {"logp": logp_V, "value": values["value"], "cost_value": values["cost_value"]}
    loss = loss_of("ppo_lagrangian", experience, outputs)
    assert_close(torch.autograd.grad(-loss, logits_V, retain_graph=True)[0], torch.autograd.grad(truth, logits_V)[0])


def test_both_critics_learn_their_own_returns() -> None:
    count = 5
    names = ("value", "cost_value", "return", "cost_return")
    columns = {name: drawn(count, seed) for seed, name in enumerate(names)}
    columns |= {"logp": -drawn(count, 8).abs(), "advantage": torch.zeros(count, dtype=torch.float64)}
    outputs = {"logp": columns["logp"], "value": drawn(count, 5), "cost_value": drawn(count, 6)}
    loss = loss_of("ppo_lagrangian", experience_of((2, 3), columns), outputs, value_coef=0.7)
    truth = 0.0
    for value, target in (("value", "return"), ("cost_value", "cost_return")):
        for n in range(count):
            now, old, wanted = outputs[value][n].item(), columns[value][n].item(), columns[target][n].item()
            near = old + min(max(now - old, -0.2), 0.2)
            truth += 0.7 * 0.5 * max((now - wanted) ** 2, (near - wanted) ** 2) / count
    assert loss.item() == pytest.approx(truth)


def test_advantages_of_reward_and_cost_are_estimated_apart() -> None:
    columns = {"value": drawn(5, 1), "cost_value": drawn(5, 2), "cost": drawn(5, 3)}
    experience, reward_N = experience_of((2, 3), columns), drawn(5, 4)
    method, settings = method_of("ppo_lagrangian", gae_lambda=0.9)
    found = method.advantages(experience, reward_N, settings)
    assert_close(found["advantage"], advantages_of("ppo", experience, reward_N, gae_lambda=0.9))
    of_cost = experience.with_columns({"value": columns["cost_value"]})
    assert_close(found["cost_advantage"], advantages_of("ppo", of_cost, columns["cost"], gae_lambda=0.9))
    assert_close(found["cost_return"], found["cost_advantage"] + columns["cost_value"])


@pytest.mark.parametrize("cost", [-1.0, 0.5, 3.0])
def test_the_multiplier_climbs_the_gradient_of_its_logarithm(cost: float) -> None:
    """d/d(log lambda) of lambda (cost - budget) is lambda (cost - budget): in proportion to the violation."""
    log_value = torch.tensor(0.4, requires_grad=True)
    (slope,) = torch.autograd.grad(log_value.exp() * (cost - 0.5), log_value)
    before = LagrangeMultiplier(log_value=0.4, budget=0.5, learning_rate=0.1)
    after = before.updated(cost)
    assert after.log_value == pytest.approx(0.4 + 0.1 * slope.item())
    assert after.value > 0 and (after.value > before.value) is (cost > 0.5)


def test_the_multiplier_stops_where_the_reward_hardly_counts() -> None:
    multiplier = LagrangeMultiplier(log_value=math.log(50.0), budget=0.0, learning_rate=10.0).updated(1e6)
    assert multiplier.value == pytest.approx(LARGEST)
