"""Drawing follows the distribution, cut or not."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from torch.testing import assert_close

from assent.model.drawing import LEVELS, draw, truncate, walk
from assent.ports.sampling import SamplingParams


def test_draws_follow_the_distribution() -> None:
    logits_V = torch.tensor([0.0, 1.0, -2.0, 0.5, 2.0, float("-inf"), -1.0])
    count = 20000
    uniform_BL = torch.rand(count, LEVELS, generator=torch.Generator().manual_seed(3))
    for sampling in (
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=2.0, top_k=4),
        SamplingParams(top_p=0.7),
    ):
        ids_B, logp_B = draw(logits_V.expand(count, -1), uniform_BL, sampling)
        logp_V = torch.log_softmax(logits_V / sampling.temperature, -1)
        p_V = truncate(logp_V[None], top_k=sampling.top_k, top_p=sampling.top_p)[0].exp().double()
        seen_V = torch.bincount(ids_B, minlength=7)
        possible = p_V > 0
        assert not seen_V[~possible].any()
        expected = (p_V[possible] / p_V[possible].sum() * count).tolist()
        assert chisquare(seen_V[possible].tolist(), expected).pvalue > 1e-3
        assert_close(logp_B.double(), p_V.log()[ids_B], atol=1e-5, rtol=1e-5)


def test_a_uniform_at_the_very_edge_never_draws_an_impossible_token() -> None:
    logits_BV = torch.tensor([[float("-inf"), 0.3, float("-inf"), 0.1, float("-inf")]]).expand(4, -1)
    edges_B1 = torch.tensor([[0.0], [1.0], [1.0 - 2**-25], [0.5]])
    ids_B, logp_B = draw(logits_BV, edges_B1.expand(-1, LEVELS), SamplingParams())
    assert ids_B.tolist() == [1, 3, 3, 1] and torch.isfinite(logp_B).all()


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 256, 300])
def test_a_walk_reaches_every_place_as_often_as_it_weighs(size: int) -> None:
    """Also where the last nodes of a level are not full, and never a place that weighs nothing."""
    drawn = torch.Generator().manual_seed(size)
    p_V = torch.rand(size, generator=drawn) + 0.1
    p_V[1::5] = 0.0
    count = 200 * size
    seen_V = torch.bincount(walk(p_V.expand(count, -1), torch.rand(count, LEVELS, generator=drawn)), minlength=size)
    possible = p_V > 0
    assert not seen_V[~possible].any()
    expected = (p_V[possible].double() / p_V.double().sum() * count).tolist()
    assert possible.sum() == 1 or chisquare(seen_V[possible].tolist(), expected).pvalue > 1e-3


def test_rounding_of_logits_next_to_never_draws_another_token() -> None:
    """With the vocabulary and the entropy (4.3 nats) of a real model; one cumulative sum parts in 1 % of the draws."""
    drawn, count = torch.Generator().manual_seed(0), 32
    logits_BV = 3.0 * torch.randn(count, 49152, generator=drawn)
    logits_BV[:, :40] += 8.0
    rounded_BV = logits_BV + 1e-5 * torch.randn(logits_BV.shape, generator=drawn)
    p_BV, other_BV = logits_BV.softmax(-1), rounded_BV.softmax(-1)
    parted = 0
    for _ in range(100):
        uniform_BL = torch.rand(count, LEVELS, generator=drawn)
        parted += int((walk(p_BV, uniform_BL) != walk(other_BV, uniform_BL)).sum())
    assert parted <= 2  # of 3,200


def test_greedy_takes_the_likeliest_token_for_sure() -> None:
    ids_B, logp_B = draw(
        torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]]), torch.full((2, LEVELS), 0.9), SamplingParams(temperature=0.0)
    )
    assert ids_B.tolist() == [1, 0] and logp_B.tolist() == [0.0, 0.0]


def brute_force(p_V: list[float], top_k: int, top_p: float) -> set[int]:
    """Take tokens from the likeliest down until `top_k` are taken or they hold `top_p` of the mass."""
    kept: set[int] = set()
    mass = 0.0
    for token in sorted(range(len(p_V)), key=lambda t: -p_V[t]):
        if mass >= top_p or (top_k and len(kept) == top_k):
            break
        kept.add(token)
        mass += p_V[token]
    return kept


@pytest.mark.parametrize("top_k", [0, 1, 3, 8, 20])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5, 0.01])
def test_truncation_keeps_what_brute_force_keeps(top_k: int, top_p: float) -> None:
    logp_BV = torch.log_softmax(torch.randn(12, 8, generator=torch.Generator().manual_seed(1)), -1)
    cut_BV = truncate(logp_BV, top_k=top_k, top_p=top_p)
    for row, cut in zip(logp_BV, cut_BV, strict=True):
        kept = brute_force(row.exp().tolist(), top_k, top_p)
        assert {token for token in range(8) if cut[token] > float("-inf")} == kept
        true_V = row[sorted(kept)] - row[sorted(kept)].logsumexp(0)
        assert_close(cut[sorted(kept)], true_V, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("top_p", [1e-300, 1e-46, 1e-9])
def test_a_top_p_next_to_nothing_keeps_the_likeliest_token(top_p: float) -> None:
    logits_BV = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, -1.0]])
    ids_B, logp_B = draw(logits_BV, torch.tensor([[0.0], [0.999]]).expand(-1, LEVELS), SamplingParams(top_p=top_p))
    assert ids_B.tolist() == [1, 0] and logp_B.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_show_in_the_log_probability_of_their_row_alone(
    temperature: float, bad: float
) -> None:
    logits_BV = torch.tensor([[0.0, bad, 1.0], [2.0, 0.0, -1.0]])
    _, logp_B = draw(logits_BV, torch.full((2, LEVELS), 0.5), SamplingParams(temperature=temperature))
    assert logp_B.isnan().tolist() == [True, False]
