"""Decoding with the cache is full recomputation, whatever the batch; drawing follows the distribution."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import chisquare
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm
from torch import Tensor
from torch.testing import assert_close

from assent.model.body import Body
from assent.model.flat import flatten
from assent.model.generation import Sampled, draw, generate, truncate
from assent.model.roles import LanguageRole
from assent.ports.sampling import Sampling

PROMPTS = [[5, 9, 2], [7], [11, 12, 13, 14, 15, 16, 17], [3, 3, 8, 21], [40, 41, 42], [99, 98]]
SEEDS = [101, 102, 103, 104, 105, 106]
NO_END: frozenset[int] = frozenset()


def role_of(name: str) -> LanguageRole:
    return LanguageRole(body_of(causal_lm(name)))


def written(
    role: LanguageRole, sampling: Sampling, ends: frozenset[int] = NO_END, places=range(6)
) -> dict[int, Sampled]:
    """Completions by place among PROMPTS, written in the order and batches asked for."""
    order = list(places)
    found = generate(
        role, [PROMPTS[i] for i in order], sampling=sampling, end_ids=ends, seeds=[SEEDS[i] for i in order]
    )
    return {order[index]: sampled for index, sampled in found}


@torch.no_grad()
def all_logits(role: LanguageRole, ids: list[int]) -> Tensor:
    """Logits (T, V) by transformers' own forward pass, without a cache."""
    model = causal_lm_like(role)
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def causal_lm_like(role: LanguageRole) -> torch.nn.Module:
    model = causal_lm(role.body.model.config.model_type.replace("gpt_neox", "neox"))
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("name", CAUSAL)
def test_greedy_decoding_is_full_recomputation(name: str) -> None:
    role = role_of(name)
    for place, sampled in written(role, Sampling(max_tokens=12, temperature=0.0)).items():
        ids = list(PROMPTS[place])
        for token in sampled.ids:
            assert int(all_logits(role, ids)[-1].argmax()) == token
            ids.append(token)
        assert not sampled.ended and len(sampled.ids) == 12


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.3, 20, 1.0), (0.9, 50, 0.8)]
)
def test_sampled_logps_are_what_a_full_pass_gives(name: str, temperature: float, top_k: int, top_p: float) -> None:
    role = role_of(name)
    sampling = Sampling(max_tokens=10, temperature=temperature, top_k=top_k, top_p=top_p, batch_size=4)
    for place, sampled in written(role, sampling).items():
        start = len(PROMPTS[place])
        logits_TV = all_logits(role, [*PROMPTS[place], *sampled.ids])[start - 1 : -1]
        logp_TV = truncate(torch.log_softmax(logits_TV / temperature, -1), top_k=top_k, top_p=top_p)
        true_T = logp_TV.gather(1, torch.tensor(sampled.ids)[:, None])[:, 0]
        assert_close(torch.tensor(sampled.logps), true_T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_neither_batch_size_nor_order_of_prompts_changes_what_is_written(name: str) -> None:
    role = role_of(name)
    ends = frozenset(range(0, VOCABULARY, 12))
    truth = written(role, Sampling(max_tokens=14, batch_size=6), ends)
    assert len({len(sampled.ids) for sampled in truth.values()}) > 2
    for batch_size, order in [(1, range(6)), (2, range(6)), (6, [5, 3, 1, 0, 2, 4]), (3, [4, 0, 5])]:
        again = written(role, Sampling(max_tokens=14, batch_size=batch_size), ends, order)
        for place in order:
            assert again[place].ids == truth[place].ids and again[place].ended == truth[place].ended
            assert_close(torch.tensor(again[place].logps), torch.tensor(truth[place].logps), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_rows_that_finish_and_leave_change_nothing_for_the_others(name: str) -> None:
    """Without end tokens every row stays to the end; with them, rows leave and the cache is rebuilt on the way."""
    role = role_of(name)
    free = written(role, Sampling(max_tokens=20))
    ends = frozenset({free[place].ids[step] for place, step in ((0, 2), (1, 4), (2, 4), (3, 9))})
    leaving = written(role, Sampling(max_tokens=20), ends)
    assert sum(sampled.ended for sampled in leaving.values()) >= 4
    for place, sampled in leaving.items():
        expected = list(itertools.takewhile(lambda token: token not in ends, free[place].ids))
        assert sampled.ended == (len(expected) < 20)
        assert list(sampled.ids[: len(expected)]) == expected
        assert len(sampled.ids) == len(expected) + sampled.ended
        assert_close(
            torch.tensor(sampled.logps), torch.tensor(free[place].logps[: len(sampled.ids)]), atol=1e-5, rtol=1e-4
        )


def test_another_seed_writes_something_else() -> None:
    role = role_of("llama")
    first, second = (
        dict(generate(role, PROMPTS, sampling=Sampling(max_tokens=8), end_ids=NO_END, seeds=seeds))
        for seeds in (SEEDS, [seed + 1 for seed in SEEDS])
    )
    assert all(first[place].ids != second[place].ids for place in first)


def test_the_hidden_state_of_a_decoding_step_is_that_of_the_flat_row() -> None:
    role = role_of("qwen3")
    sampled = written(role, Sampling(max_tokens=6))[2]
    batch = flatten([[*PROMPTS[2], *sampled.ids]], [[False] * len(PROMPTS[2]) + [True] * 6])
    with torch.no_grad():
        logp_MV = torch.log_softmax(role.head.logits(role.hidden(batch)), -1)
    assert_close(torch.tensor(sampled.logps), logp_MV.gather(1, batch.target_M[:, None])[:, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_states_of_rows_that_leave_at_different_times_are_those_of_flat_rows(name: str) -> None:
    role, ends = role_of(name), frozenset(range(0, VOCABULARY, 12))
    found = written(role, Sampling(max_tokens=14, batch_size=6, states=True), ends)
    assert len({len(sampled.ids) for sampled in found.values()}) > 2
    for place, sampled in found.items():
        asked, said = PROMPTS[place], list(sampled.ids)
        with torch.no_grad():
            hidden_MH = role.hidden(flatten([[*asked, *said]], [[False] * len(asked) + [True] * len(said)]))
        assert sampled.states is not None
        assert_close(torch.from_numpy(sampled.states), hidden_MH, atol=1e-4, rtol=1e-4)


def test_states_are_told_only_if_asked_for_and_never_in_bf16() -> None:
    assert all(sampled.states is None for sampled in written(role_of("llama"), Sampling(max_tokens=2)).values())
    low = LanguageRole(Body(causal_lm("llama"), device=torch.device("cpu"), precision="bf16"))
    assert all(sampled.states is None for sampled in written(low, Sampling(max_tokens=2, states=True)).values())


def test_draws_follow_the_distribution() -> None:
    logits_V = torch.tensor([0.0, 1.0, -2.0, 0.5, 2.0, float("-inf"), -1.0])
    count = 20000
    uniform_B = torch.rand(count, generator=torch.Generator().manual_seed(3))
    for sampling in (Sampling(), Sampling(temperature=0.5), Sampling(temperature=2.0, top_k=4), Sampling(top_p=0.7)):
        ids_B, logp_B = draw(logits_V.expand(count, -1), uniform_B, sampling)
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
    edges_B = torch.tensor([0.0, 1.0, 1.0 - 2**-25, 0.5])
    ids_B, logp_B = draw(logits_BV, edges_B, Sampling())
    assert ids_B.tolist() == [1, 3, 3, 1] and torch.isfinite(logp_B).all()


def test_greedy_takes_the_likeliest_token_for_sure() -> None:
    ids_B, logp_B = draw(
        torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]]), torch.tensor([0.9, 0.9]), Sampling(temperature=0.0)
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
    ids_B, logp_B = draw(logits_BV, torch.tensor([0.0, 0.999]), Sampling(top_p=top_p))
    assert ids_B.tolist() == [1, 0] and logp_B.tolist() == [0.0, 0.0]
