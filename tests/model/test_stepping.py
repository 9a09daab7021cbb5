"""Sequences that come and go while others are written get what they would get alone."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm
from torch.testing import assert_close

from assent.model.body import Body
from assent.model.generation import generate
from assent.model.roles import LanguageRole
from assent.model.stepping import Begun, Drawn, StepDecoder
from assent.ports.sampling import Sampling

PROMPTS = [[5, 9, 2], [7], [11, 12, 13, 14, 15, 16, 17], [3, 3, 8, 21], [40, 41, 42], [99, 98]]
SAMPLINGS = [
    Sampling(max_tokens=14), Sampling(max_tokens=5, temperature=0.7), Sampling(max_tokens=14, temperature=0.0),
    Sampling(max_tokens=9, top_p=0.8), Sampling(max_tokens=14, top_k=20), Sampling(max_tokens=12, temperature=1.3),
]  # fmt: skip
ENDS = frozenset(range(0, VOCABULARY, 12))


def role_of(name: str) -> LanguageRole:
    return LanguageRole(body_of(causal_lm(name)))


def begun(place: int, top_logprobs: int = 0) -> Begun:
    return Begun(
        key=place, prompt_ids=PROMPTS[place], sampling=SAMPLINGS[place], seed=100 + place, top_logprobs=top_logprobs
    )


def stepped(role: LanguageRole, arrivals: dict[int, list[int]], gone: dict[int, list[int]]) -> dict[int, list[Drawn]]:
    """What is drawn for each place; `arrivals` and `gone` say at which step places come and are dropped."""
    decoder = StepDecoder(role, end_ids=ENDS)
    drawn: dict[int, list[Drawn]] = {}
    for step in range(40):
        decoder.begin([begun(place) for place in arrivals.get(step, [])])
        decoder.drop(gone.get(step, []))
        for one in decoder.step():
            drawn.setdefault(one.key, []).append(one)
    assert decoder.under_way == 0
    return drawn


@pytest.mark.parametrize("name", CAUSAL)
def test_whoever_comes_and_goes_the_tokens_are_those_of_writing_alone(name: str) -> None:
    role = role_of(name)
    together = stepped(role, {0: [2, 0], 1: [5], 4: [1, 3], 6: [4]}, {9: [2]})
    for place, prompt in enumerate(PROMPTS):
        (_, alone), *_ = generate(role, [prompt], sampling=SAMPLINGS[place], end_ids=ENDS, seeds=[100 + place])
        ids = tuple(one.id for one in together[place])
        assert ids == (alone.ids if place != 2 else alone.ids[: len(ids)])
        if place != 2:
            assert together[place][-1].ended == alone.ended
            assert together[place][-1].full == (len(ids) == SAMPLINGS[place].max_tokens)


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_log_probabilities_are_the_models_own_whatever_the_temperature(name: str) -> None:
    role = role_of(name)
    for place, line in stepped(role, {0: [2, 0], 1: [5], 4: [1, 3, 4]}, {}).items():
        ids = [one.id for one in line]
        with torch.no_grad():
            model = causal_lm(name)
            model.set_attn_implementation("eager")
            logits_TV = model(torch.tensor([[*PROMPTS[place], *ids]]), use_cache=False).logits[0]
        true_T = torch.log_softmax(logits_TV[len(PROMPTS[place]) - 1 : -1], -1).gather(1, torch.tensor(ids)[:, None])
        assert_close(torch.tensor([one.logp for one in line]), true_T[:, 0], atol=1e-5, rtol=1e-4)


def test_the_likeliest_tokens_are_told_in_order_and_only_to_who_asked() -> None:
    decoder = StepDecoder(role_of("qwen3"), end_ids=frozenset())
    decoder.begin([begun(0, top_logprobs=4), begun(2)])
    first, second = decoder.step()
    logps = [logp for _, logp in first.top_logprobs]
    assert len(first.top_logprobs) == 4 and logps == sorted(logps, reverse=True) and second.top_logprobs == ()
    assert second.logp == pytest.approx(max(logp for _, logp in [(second.id, second.logp)]))
    assert all(logp <= logps[0] for logp in (first.logp, *logps))


def test_a_long_text_outgrows_its_cache_without_a_change() -> None:
    """Beyond the spare columns the cache is laid anew; 200 tokens cross that several times."""
    role = role_of("llama")
    sampling = Sampling(max_tokens=200)
    (_, alone), *_ = generate(role, [PROMPTS[0]], sampling=sampling, end_ids=frozenset(), seeds=[7])
    decoder = StepDecoder(role, end_ids=frozenset())
    decoder.begin([Begun(key=0, prompt_ids=PROMPTS[0], sampling=sampling, seed=7)])
    assert tuple(decoder.step()[0].id for _ in range(200)) == alone.ids


def test_dropping_everyone_leaves_nothing_and_a_new_one_starts_afresh() -> None:
    role = role_of("llama")
    decoder = StepDecoder(role, end_ids=ENDS)
    decoder.begin([begun(0), begun(2)])
    decoder.step()
    decoder.drop([0, 2, 77])
    assert decoder.under_way == 0 and decoder.step() == []
    decoder.begin([begun(0)])
    (_, alone), *_ = generate(role, [PROMPTS[0]], sampling=SAMPLINGS[0], end_ids=ENDS, seeds=[100])
    assert decoder.step()[0].id == alone.ids[0]


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("method", ["_advance", "_take_in", "_by_sampling", "_keep"])
def test_after_a_step_that_fails_everyone_goes_on_where_they_stood(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures in the middle of a step, after the cache has grown: the tokens are those of writing alone."""
    real, left = getattr(StepDecoder, method), [2, 5]

    def failing(self: StepDecoder, *given: object) -> object:
        found = real(self, *given)
        left[:] = [count - 1 for count in left]
        if 0 in left:
            raise RuntimeError("on purpose")
        return found

    monkeypatch.setattr(StepDecoder, method, failing)
    role = role_of(name)
    decoder = StepDecoder(role, end_ids=ENDS)
    ids: dict[int, list[int]] = {}
    for step in range(60):
        if step < len(PROMPTS):
            decoder.begin([begun(step)])
        with suppress(RuntimeError):
            for one in decoder.step():
                ids.setdefault(one.key, []).append(one.id)
    assert decoder.under_way == 0 and max(left) < 4, "it has failed at least once"
    for place, prompt in enumerate(PROMPTS):
        (_, alone), *_ = generate(role, [prompt], sampling=SAMPLINGS[place], end_ids=ENDS, seeds=[100 + place])
        assert tuple(ids[place]) == alone.ids


def test_some_may_be_stepped_without_the_others() -> None:
    role = role_of("llama")
    decoder = StepDecoder(role, end_ids=ENDS)
    decoder.begin([begun(place) for place in range(len(PROMPTS))])
    ids: dict[int, list[int]] = {place: [] for place in range(len(PROMPTS))}
    for step in range(200):
        keys = [(step, step // 2), (step * 5,), range(99)][step % 3]
        for one in decoder.step([key % len(PROMPTS) for key in keys]):
            ids[one.key].append(one.id)
    assert decoder.under_way == 0
    for place, prompt in enumerate(PROMPTS):
        (_, alone), *_ = generate(role, [prompt], sampling=SAMPLINGS[place], end_ids=ENDS, seeds=[100 + place])
        assert tuple(ids[place]) == alone.ids


def test_prompts_are_read_in_passes_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Body, "read_at_once", 8)
    role, sizes = role_of("llama"), []
    real = Body.hidden
    monkeypatch.setattr(Body, "hidden", lambda self, batch, *more, **named: (
        sizes.append(len(batch.ids_N)), real(self, batch, *more, **named))[1])  # fmt: skip
    decoder = StepDecoder(role, end_ids=frozenset())
    decoder.begin([Begun(key=key, prompt_ids=prompt, sampling=Sampling(max_tokens=3), seed=key)
                   for key, prompt in enumerate([[5, 9, 2], [7], [3, 3, 8, 21], list(range(2, 14)), [6]])])  # fmt: skip
    drawn = [decoder.step() for _ in range(3)]
    assert sizes == [8, 12, 1] and [one.key for one in drawn[0]] == [0, 1, 2, 3, 4]
    monkeypatch.undo()
    (_, alone), *_ = generate(role, [[6]], sampling=Sampling(max_tokens=3), end_ids=frozenset(), seeds=[4])
    assert tuple(step[4].id for step in drawn) == alone.ids
