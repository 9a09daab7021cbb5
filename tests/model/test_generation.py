"""Decoding with the cache is full recomputation, whatever the batch; drawing follows the distribution."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm
from torch import Tensor
from torch.testing import assert_close

from assent.model.body import Body
from assent.model.drawing import truncate
from assent.model.flat import flatten
from assent.model.generation import Decoder, Generation
from assent.model.roles import LanguageRole
from assent.ports.sampling import SamplingParams
from assent.types import StopReason

PROMPTS = [[5, 9, 2], [7], [11, 12, 13, 14, 15, 16, 17], [3, 3, 8, 21], [40, 41, 42], [99, 98]]
LONG = list(range(200, 220))  # a beginning that several share
SEEDS = [101, 102, 103, 104, 105, 106]
NO_END: frozenset[int] = frozenset()


def role_of(name: str) -> LanguageRole:
    return LanguageRole(body_of(causal_lm(name)))


def written(
    role: LanguageRole,
    sampling: SamplingParams,
    ends: frozenset[int] = NO_END,
    places: Sequence[int] = range(6),
    **limits: Any,
) -> dict[int, Generation]:
    """Completions by place among PROMPTS, written in the order and side by side as asked for."""
    decoder = Decoder(role, end_ids=ends, **limits)
    begun = [Generation(key=i, prompt_ids=PROMPTS[i], sampling=sampling, seed=SEEDS[i]) for i in places]
    decoder.add(begun)
    while decoder.under_way:
        decoder.step()
    assert all(len(one.ids) == len(one.logps) and one.stop is not None for one in begun)
    return {one.key: one for one in begun}


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
    for place, sampled in written(role, SamplingParams(max_tokens=12, temperature=0.0)).items():
        ids = list(PROMPTS[place])
        for token in sampled.ids:
            assert int(all_logits(role, ids)[-1].argmax()) == token
            ids.append(token)
        assert sampled.stop is StopReason.LENGTH and len(sampled.ids) == 12


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_greedy_decoding_is_what_transformers_generates(name: str) -> None:
    role, plain = role_of(name), causal_lm(name)
    for place, sampled in written(role, SamplingParams(max_tokens=20, temperature=0.0), frozenset({0})).items():
        ids = torch.tensor([PROMPTS[place]])
        generated = plain.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
        assert generated[0, ids.shape[1] :].tolist() == sampled.ids


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.3, 20, 1.0), (0.9, 50, 0.8)]
)
def test_sampled_logps_are_what_a_full_pass_gives(name: str, temperature: float, top_k: int, top_p: float) -> None:
    role = role_of(name)
    sampling = SamplingParams(max_tokens=10, temperature=temperature, top_k=top_k, top_p=top_p)
    for place, sampled in written(role, sampling, most_rows=4).items():
        start = len(PROMPTS[place])
        logits_TV = all_logits(role, [*PROMPTS[place], *sampled.ids])[start - 1 : -1]
        logp_TV = truncate(torch.log_softmax(logits_TV / temperature, -1), top_k=top_k, top_p=top_p)
        true_T = logp_TV.gather(1, torch.tensor(sampled.ids)[:, None])[:, 0]
        assert_close(torch.tensor(sampled.logps), true_T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_neither_limits_nor_the_order_of_prompts_change_what_is_written(name: str) -> None:
    role = role_of(name)
    ends = frozenset(range(0, VOCABULARY, 12))
    truth = written(role, SamplingParams(max_tokens=14), ends)
    assert len({len(sampled.ids) for sampled in truth.values()}) > 2
    limits = [{"most_rows": 1}, {"most_rows": 2}, {"most_tokens": 45}, {}, {"most_rows": 3}]
    for limit, order in zip(limits, [range(6), range(6), range(6), [5, 3, 1, 0, 2, 4], [4, 0, 5]], strict=True):
        again = written(role, SamplingParams(max_tokens=14), ends, order, **limit)
        for place in order:
            assert again[place].ids == truth[place].ids and again[place].stop == truth[place].stop
            assert_close(torch.tensor(again[place].logps), torch.tensor(truth[place].logps), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_rows_that_finish_and_leave_change_nothing_for_the_others(name: str) -> None:
    """Without end tokens every row stays to the end; with them, rows leave and the cache is rebuilt on the way."""
    role = role_of(name)
    free = written(role, SamplingParams(max_tokens=20))
    ends = frozenset({free[place].ids[step] for place, step in ((0, 2), (1, 4), (2, 4), (3, 9))})
    leaving = written(role, SamplingParams(max_tokens=20), ends)
    assert sum(sampled.stop is StopReason.END for sampled in leaving.values()) >= 4
    for place, sampled in leaving.items():
        expected = list(itertools.takewhile(lambda token: token not in ends, free[place].ids))
        ended = sampled.stop is StopReason.END
        assert ended == (len(expected) < 20)
        assert sampled.ids[: len(expected)] == expected
        assert len(sampled.ids) == len(expected) + ended
        assert_close(
            torch.tensor(sampled.logps), torch.tensor(free[place].logps[: len(sampled.ids)]), atol=1e-5, rtol=1e-4
        )


def test_another_seed_writes_something_else() -> None:
    begun = [Generation(key=s, prompt_ids=PROMPTS[2], sampling=SamplingParams(max_tokens=8), seed=s) for s in range(6)]
    decoder = Decoder(role_of("llama"), end_ids=NO_END)
    decoder.add(begun)
    while decoder.under_way:
        decoder.step()
    assert len({tuple(one.ids) for one in begun}) == 6


def test_the_hidden_state_of_a_decoding_step_is_that_of_the_flat_row() -> None:
    role = role_of("qwen3")
    sampled = written(role, SamplingParams(max_tokens=6))[2]
    batch = flatten([[*PROMPTS[2], *sampled.ids]], [[False] * len(PROMPTS[2]) + [True] * 6])
    with torch.no_grad():
        logp_MV = torch.log_softmax(role.head.logits(role.hidden(batch)), -1)
    assert_close(torch.tensor(sampled.logps), logp_MV.gather(1, batch.target_M[:, None])[:, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_states_of_rows_that_leave_at_different_times_are_those_of_flat_rows(name: str) -> None:
    role, ends = role_of(name), frozenset(range(0, VOCABULARY, 12))
    found = written(role, SamplingParams(max_tokens=14), ends, keep_states=True)
    assert len({len(sampled.ids) for sampled in found.values()}) > 2
    for place, sampled in found.items():
        asked, said = PROMPTS[place], list(sampled.ids)
        with torch.no_grad():
            hidden_MH = role.hidden(flatten([[*asked, *said]], [[False] * len(asked) + [True] * len(said)]))
        assert_close(torch.from_numpy(np.stack(sampled.states)), hidden_MH, atol=1e-4, rtol=1e-4)


def test_states_are_kept_only_if_asked_for_and_never_in_bf16() -> None:
    sampling = SamplingParams(max_tokens=2)
    assert not any(sampled.states for sampled in written(role_of("llama"), sampling).values())
    low = LanguageRole(Body(causal_lm("llama"), device=torch.device("cpu"), precision="bf16"))
    assert not any(sampled.states for sampled in written(low, sampling, keep_states=True).values())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_whose_numbers_break_ends_a_sequence_with_an_error(temperature: float) -> None:
    role = role_of("qwen2")
    with torch.no_grad():
        role.body.model.get_input_embeddings().weight[PROMPTS[1][0]] = float("nan")
    found = written(role, SamplingParams(max_tokens=2, temperature=temperature))
    assert [place for place, one in found.items() if one.stop is StopReason.ERROR] == [1]
    assert len(found[1].ids) == 1 and all(len(found[place].ids) == 2 for place in (0, 2, 3, 4, 5))


@pytest.mark.parametrize("shared", ["once", "apart"])
@pytest.mark.parametrize("name", CAUSAL)
def test_completions_of_one_prompt_and_common_beginnings_are_read_once_and_written_as_if_read_each(
    name: str, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = Body.hidden
    monkeypatch.setattr(Body, "hidden", lambda self, batch, *more, **named: (
        sizes.append(len(batch.ids_N)), real(self, batch, *more, **named))[1])  # fmt: skip
    role, sampling, ends = role_of(name), SamplingParams(max_tokens=12), frozenset(range(0, VOCABULARY, 12))

    several = {"once": [PROMPTS[2]] * 3 + [PROMPTS[0]] * 2 + [PROMPTS[1]], "apart": [[*LONG, *row] for row in PROMPTS]}
    begun = [
        Generation(key=key, prompt_ids=prompt, sampling=sampling, seed=key)
        for key, prompt in enumerate(several[shared])
    ]
    together, each = copy.deepcopy(begun), copy.deepcopy(begun)
    for group in (together, *([one] for one in each)):
        decoder = Decoder(role, end_ids=ends)
        decoder.add(group)
        while decoder.under_way:
            decoder.step()
    assert sizes[0] == {"once": 7 + 3 + 1, "apart": len(LONG) + sum(map(len, PROMPTS))}[shared]
    assert sizes[1:] == [len(one.prompt_ids) for one in each]
    for one, other in zip(together, each, strict=True):
        assert one.ids == other.ids and one.stop == other.stop
        assert_close(torch.tensor(one.logps), torch.tensor(other.logps), atol=1e-5, rtol=1e-4)
