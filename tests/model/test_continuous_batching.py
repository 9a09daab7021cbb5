"""Sequences that come and go while others are written get what they would get alone."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm, seeded
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from assent.model.body import Body
from assent.model.generation import Decoder, Generation
from assent.model.roles import LanguageRole
from assent.ports.sampling import SamplingParams

PROMPTS = [[5, 9, 2], [7], [11, 12, 13, 14, 15, 16, 17], [3, 3, 8, 21], [40, 41, 42], [99, 98]]
SAMPLINGS = [
    SamplingParams(max_tokens=14, top_logprobs=0), SamplingParams(max_tokens=5, temperature=0.7, top_logprobs=0),
    SamplingParams(max_tokens=14, temperature=0.0, top_logprobs=0), SamplingParams(max_tokens=9, top_p=0.8),
    SamplingParams(max_tokens=14, top_k=20, top_logprobs=0), SamplingParams(max_tokens=12, temperature=1.3),
]  # fmt: skip
LONG = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 300, "initializer_range": 0.4, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip
ENDS = frozenset(range(0, VOCABULARY, 12))


def role_of(name: str) -> LanguageRole:
    return LanguageRole(body_of(causal_lm(name)))


def begun(place: int, **more: object) -> Generation:
    sampling = replace(SAMPLINGS[place], **more)
    return Generation(key=place, prompt_ids=PROMPTS[place], sampling=sampling, seed=100 + place)


def finished(decoder: Decoder, *sequences: Generation) -> Generation:
    """The first of the sequences, once all are written."""
    decoder.add(sequences)
    while decoder.under_way:
        decoder.step()
    return sequences[0]


def alone(role: LanguageRole, place: int) -> Generation:
    return finished(Decoder(role, end_ids=ENDS), begun(place))


def coming_and_going(
    role: LanguageRole, arrivals: dict[int, list[int]], gone: dict[int, list[int]]
) -> dict[int, tuple[Generation, list[float]]]:
    """What is written for each place, with the model's own log-probabilities of its tokens; `arrivals` and `gone` say
    at which step places come and are dropped."""
    decoder = Decoder(role, end_ids=ENDS)
    found: dict[int, tuple[Generation, list[float]]] = {}
    for step in range(40):
        decoder.add([begun(place) for place in arrivals.get(step, [])])
        decoder.abort(gone.get(step, []))
        for one in decoder.step():
            found.setdefault(one.key, (one, []))[1].append(one.model_logp)
    assert decoder.under_way == 0
    return found


@pytest.mark.parametrize("name", CAUSAL)
def test_whoever_comes_and_goes_the_tokens_are_those_of_writing_alone(name: str) -> None:
    role = role_of(name)
    together = coming_and_going(role, {0: [2, 0], 1: [5], 4: [1, 3], 6: [4]}, {9: [2]})
    for place in range(len(PROMPTS)):
        one, true = together[place][0], alone(role, place)
        assert one.ids == (true.ids if place != 2 else true.ids[: len(one.ids)])
        assert place == 2 or one.stop == true.stop


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_log_probabilities_are_the_models_own_whatever_the_temperature(name: str) -> None:
    role = role_of(name)
    for place, (one, logps) in coming_and_going(role, {0: [2, 0], 1: [5], 4: [1, 3, 4]}, {}).items():
        if SAMPLINGS[place].top_logprobs is None:
            continue
        with torch.no_grad():
            model = causal_lm(name)
            model.set_attn_implementation("eager")
            logits_TV = model(torch.tensor([[*PROMPTS[place], *one.ids]]), use_cache=False).logits[0]
        logp_TV = torch.log_softmax(logits_TV[len(PROMPTS[place]) - 1 : -1], -1)
        true_T = logp_TV.gather(1, torch.tensor(one.ids)[:, None])
        assert_close(torch.tensor(logps), true_T[:, 0], atol=1e-5, rtol=1e-4)


def test_the_likeliest_tokens_come_in_order_and_only_to_who_asked() -> None:
    decoder = Decoder(role_of("qwen3"), end_ids=frozenset())
    decoder.add([begun(0, top_logprobs=4), begun(2), begun(3)])
    first, second, third = decoder.step()
    logps = [logp for _, logp in first.top_logprobs]
    assert len(first.top_logprobs) == 4 and logps == sorted(logps, reverse=True)
    assert all(logp <= logps[0] for logp in (first.model_logp, *logps))
    assert second.top_logprobs == third.top_logprobs == () and second.model_logp < 0.0
    assert math.isnan(third.model_logp), "nobody asked"


def test_a_long_text_outgrows_its_cache_without_a_change() -> None:
    """Beyond the spare columns the cache is laid anew; 200 greedy tokens cross that several times."""
    role = LanguageRole(body_of(seeded(lambda: LlamaForCausalLM(LlamaConfig(**LONG)))))
    greedy = SamplingParams(max_tokens=200, temperature=0.0)
    others = [Generation(key=key, prompt_ids=PROMPTS[key], sampling=SAMPLINGS[key], seed=0) for key in (1, 2)]
    written = Generation(key=0, prompt_ids=PROMPTS[0], sampling=greedy, seed=7)
    ids = finished(Decoder(role, end_ids=frozenset()), written, *others).ids
    with torch.no_grad():
        role.body.model.set_attn_implementation("eager")
        logits_TV = role.body.model(torch.tensor([[*PROMPTS[0], *ids]]), use_cache=False).logits[0]
    assert logits_TV[len(PROMPTS[0]) - 1 : -1].argmax(-1).tolist() == ids and len(set(ids)) > 5


def test_aborting_everyone_leaves_nothing_and_a_new_one_starts_afresh() -> None:
    role = role_of("llama")
    decoder = Decoder(role, end_ids=ENDS)
    decoder.add([begun(0), begun(2)])
    decoder.step()
    decoder.abort([0, 2, 77])
    assert decoder.under_way == 0 and decoder.step() == []
    decoder.add([begun(0)])
    assert decoder.step()[0].ids[0] == alone(role, 0).ids[0]


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("method", ["_advance", "_admit", "_model_logps", "_passes"])
def test_after_a_step_that_fails_everyone_goes_on_where_they_stood(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures in the middle of a step, after the cache has grown: the tokens are those of writing alone."""
    real, left = getattr(Decoder, method), [2, 5]

    def failing(self: Decoder, *given: object) -> object:
        found = real(self, *given)
        left[:] = [count - 1 for count in left]
        if 0 in left:
            raise RuntimeError("on purpose")
        return found

    monkeypatch.setattr(Decoder, method, failing)
    role = role_of(name)
    decoder = Decoder(role, end_ids=ENDS)
    written = [begun(place) for place in range(len(PROMPTS))]
    for step in range(60):
        decoder.add(written[step : step + 1])
        with suppress(RuntimeError):
            decoder.step()
    assert decoder.under_way == 0 and max(left) < 4, "it has failed at least once"
    monkeypatch.undo()
    assert [one.ids for one in written] == [alone(role, place).ids for place in range(len(PROMPTS))]


def test_some_may_be_stepped_without_the_others() -> None:
    role = role_of("llama")
    decoder = Decoder(role, end_ids=ENDS)
    written = [begun(place) for place in range(len(PROMPTS))]
    decoder.add(written)
    for step in range(200):
        keys = [(step, step // 2), (step * 5,), range(99)][step % 3]
        decoder.step([key % len(PROMPTS) for key in keys])
    assert decoder.under_way == 0
    assert [one.ids for one in written] == [alone(role, place).ids for place in range(len(PROMPTS))]


def test_prompts_are_read_in_passes_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Body, "read_at_once", 8)
    role, sizes = role_of("llama"), []
    real = Body.hidden
    monkeypatch.setattr(Body, "hidden", lambda self, batch, *more, **named: (
        sizes.append(len(batch.ids_N)), real(self, batch, *more, **named))[1])  # fmt: skip
    prompts, sampling = [[5, 9, 2], [7], [3, 3, 8, 21], list(range(2, 14)), [6]], SamplingParams(max_tokens=3)
    written = [
        Generation(key=key, prompt_ids=prompt, sampling=sampling, seed=key) for key, prompt in enumerate(prompts)
    ]
    decoder = Decoder(role, end_ids=frozenset())
    finished(decoder, *written)
    assert sizes == [8, 12, 1]
    monkeypatch.undo()
    last = Generation(key=0, prompt_ids=[6], sampling=sampling, seed=4)
    assert finished(Decoder(role, end_ids=frozenset()), last).ids == written[4].ids
