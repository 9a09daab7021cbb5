"""ILQL against a slow loop over floats that is written from the paper, and by the fixed points of its terms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from assent.losses.ilql import MAX_WEIGHT, ILQLShape, TokenValues, ilql_loss, next_values

LENGTHS = (3, 1, 4, 2)
COUNT = sum(LENGTHS)
STARTS = [sum(LENGTHS[:b]) for b in range(len(LENGTHS))]
SHAPE = ILQLShape(gamma=0.9, expectile=0.8, cql_coef=0.3, awac_coef=0.7, awac_beta=0.5)


def drawn(seed: int, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()


def drawn_values() -> TokenValues:
    return TokenValues(
        q_2N=drawn(1, 2, COUNT), q_logp_2N=drawn(2, 2, COUNT), target_q_N=drawn(3, COUNT), v_N=drawn(4, COUNT),
        logp_N=drawn(5, COUNT),
    )  # fmt: skip


REWARD_N = drawn(6, COUNT).detach()


def loop(values: TokenValues, shape: ILQLShape) -> tuple[float, float, float, float]:
    """The sums of L_Q, L_V, L_CQL and L_pi, token by token."""
    q, q_logp, target, v, logp = (
        column.tolist() for column in (values.q_2N, values.q_logp_2N, values.target_q_N, values.v_N, values.logp_N)
    )
    q_sum = v_sum = cql_sum = policy_sum = 0.0
    for start, length in zip(STARTS, LENGTHS, strict=True):
        for n in range(start, start + length):
            after = v[n + 1] if n + 1 < start + length else 0.0
            wanted = REWARD_N[n].item() + shape.gamma * after
            q_sum += (q[0][n] - wanted) ** 2 + (q[1][n] - wanted) ** 2
            u = target[n] - v[n]
            v_sum += (shape.expectile if u >= 0 else 1 - shape.expectile) * u**2
            cql_sum -= q_logp[0][n] + q_logp[1][n]
            policy_sum -= min(math.exp(shape.awac_beta * u), MAX_WEIGHT) * logp[n]
    return q_sum, v_sum, cql_sum, policy_sum


def test_the_loss_is_the_papers_token_by_token() -> None:
    values = drawn_values()
    found, (q, v, cql, policy) = ilql_loss(values, REWARD_N, LENGTHS, SHAPE, step_tokens=13), loop(values, SHAPE)
    assert found.loss.item() == pytest.approx((q + v + 0.3 * cql + 0.7 * policy) / 13, rel=1e-12)
    assert [one.item() for one in (found.q, found.v, found.cql, found.policy)] == pytest.approx([q, v, cql, policy])
    assert found.advantage.item() == pytest.approx((values.target_q_N - values.v_N).sum().item())


def test_each_term_moves_what_it_is_about_and_nothing_else() -> None:
    """Numerical derivatives of each term of the loop; targets, next values and weights are held."""
    values = drawn_values()
    ilql_loss(values, REWARD_N, LENGTHS, SHAPE, step_tokens=1).loss.backward()
    assert values.target_q_N.grad is None
    for column, part, coef in (("q_2N", 0, 1.0), ("v_N", 1, 1.0), ("q_logp_2N", 2, 0.3), ("logp_N", 3, 0.7)):
        at = getattr(values, column)
        for place in range(at.numel()):
            sides = []
            for by in (1e-6, -1e-6):
                moved = at.detach().clone()
                moved.view(-1)[place] += by
                sides.append(loop(replace(values, **{column: moved}), SHAPE)[part])
            slope = coef * (sides[0] - sides[1]) / 2e-6
            assert at.grad.view(-1)[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8), column


def test_micro_batches_of_dialogues_add_up_to_the_step() -> None:
    values = drawn_values()
    whole = ilql_loss(values, REWARD_N, LENGTHS, SHAPE, step_tokens=COUNT).loss
    parts = []
    for rows, lengths in ((slice(0, 4), LENGTHS[:2]), (slice(4, COUNT), LENGTHS[2:])):
        part = TokenValues(
            q_2N=values.q_2N[:, rows], q_logp_2N=values.q_logp_2N[:, rows], target_q_N=values.target_q_N[rows],
            v_N=values.v_N[rows], logp_N=values.logp_N[rows],
        )  # fmt: skip
        parts.append(ilql_loss(part, REWARD_N[rows], lengths, SHAPE, step_tokens=COUNT).loss)
    assert_close(torch.stack(parts).sum(), whole, rtol=0, atol=1e-12)


def test_the_next_value_is_of_the_same_dialogue_and_nothing_where_it_ends() -> None:
    assert next_values(tensor([1.0, 2.0, 3.0, 4.0, 5.0]), (2, 3)).tolist() == [2.0, 0.0, 4.0, 5.0, 0.0]
    for lengths in ((2, 2), (5, 0), (6, -1)):
        with pytest.raises(ValueError, match="lengths"):
            next_values(torch.zeros(5), lengths)


def fixed_v(expectile: float, qs: Tensor) -> float:
    """Where gradient descent on L_V takes one V against several Q."""
    v = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    shape = replace(SHAPE, expectile=expectile, cql_coef=0.0, awac_coef=0.0)
    still = torch.zeros(2, len(qs), dtype=torch.float64)
    for _ in range(4000):
        values = TokenValues(
            q_2N=still, q_logp_2N=still, target_q_N=qs, v_N=v.expand(len(qs)), logp_N=torch.zeros(len(qs))
        )
        loss = ilql_loss(values, torch.zeros(len(qs)), [1] * len(qs), shape, step_tokens=1).loss
        (slope,) = torch.autograd.grad(loss, v)
        v = (v - 0.1 * slope).detach().requires_grad_()
    return v.item()


def test_v_is_the_mean_at_one_half_and_the_best_that_was_seen_at_one() -> None:
    """The expectile v of 0, 1 and 4, if it is above 1: (1 - e) (v + v - 1) = e (4 - v)."""
    qs = tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    assert fixed_v(0.5, qs) == pytest.approx(5 / 3, abs=1e-6)
    assert fixed_v(0.8, qs) == pytest.approx((4 * 0.8 + 0.2) / (0.8 + 2 * 0.2), abs=1e-6)
    assert fixed_v(0.999, qs) == pytest.approx(4.0, abs=0.02)


def test_a_weight_is_cloning_at_beta_zero_and_bounded_however_good_a_token_was() -> None:
    values = replace(drawn_values(), target_q_N=torch.full((COUNT,), 1e4, dtype=torch.float64))
    for beta, weight in ((0.0, 1.0), (1.0, MAX_WEIGHT)):
        found = ilql_loss(values, REWARD_N, LENGTHS, replace(SHAPE, awac_beta=beta), step_tokens=1)
        assert found.policy.item() == pytest.approx(-weight * values.logp_N.sum().item())
