"""What every GenerationEngine promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serving.endpoint_fakes import WordEngine
from small_models import body_of, causal_lm

from assent.backends.local.engine import LocalEngine
from assent.errors import DataError
from assent.model.roles import LanguageRole
from assent.ports.generation import GenerationEngine, GenerationRequest, StreamChunk
from assent.ports.sampling import PromptTooLong, SamplingParams
from assent.text.template import ChatTemplate
from assent.types import Conversation, StopReason

TALK = Conversation.of_user("what is red ?")
ENGINES: dict[str, Callable[[ChatTemplate], GenerationEngine]] = {
    "local": lambda template: LocalEngine(LanguageRole(body_of(causal_lm("qwen2"))), template),
    "fake": lambda template: WordEngine(),
}
every_engine = pytest.mark.parametrize("name", ENGINES)


def asking(prompt: Conversation | str = TALK, *, seed: int = 0, n: int = 1, **sampling: object) -> GenerationRequest:
    params = SamplingParams(**{"max_tokens": 9, **sampling})
    return GenerationRequest(prompt=prompt, sampling=params, seed=seed, n=n)


def written(engine: GenerationEngine, *requests: GenerationRequest) -> list[list[StreamChunk]]:
    """The chunks of every choice of all requests, which are added one step apart."""
    chunks: list[list[StreamChunk]] = []
    waiting, live = list(requests), set[int]()
    while waiting or live:
        if waiting:
            request = waiting.pop(0)
            keys = [len(chunks) + choice for choice in range(request.n)]
            engine.add(engine.tokenize(request), keys)
            chunks += [[] for _ in keys]
            live |= set(keys)
        engine.step(sorted(live))
        for key in sorted(live):
            chunks[key].append(engine.chunk(key))
            live -= {key} if chunks[key][-1].stop is not None else set()
    return chunks


def text(chunks: list[StreamChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


@every_engine
def test_a_choice_is_what_its_seed_says_whatever_is_written_beside_it(name: str, template: ChatTemplate) -> None:
    engine = ENGINES[name](template)
    together = written(engine, asking(seed=1, n=3), asking("red", seed=2), asking(seed=3, n=2))
    alone = [one for request in (asking(seed=1, n=3), asking("red", seed=2)) for one in written(engine, request)]
    assert [text(one) for one in together[:4]] == [text(one) for one in alone]
    assert len({text(one) for one in together}) > 3
    assert all(1 <= len(one) <= 9 and one[-1].stop in (StopReason.END, StopReason.LENGTH) for one in together)


@every_engine
def test_log_probabilities_come_only_if_asked_for(name: str, template: ChatTemplate) -> None:
    engine = ENGINES[name](template)
    silent, own, likeliest = written(engine, asking(), asking(top_logprobs=0), asking(top_logprobs=3))
    assert text(silent) == text(own) == text(likeliest)
    assert not any(chunk.tokens for chunk in silent)
    for chunks, count in ((own, 0), (likeliest, 3)):
        tokens = [token for chunk in chunks for token in chunk.tokens]
        assert tokens and all(token.chosen.logp <= 0 and len(token.top_logprobs) == count for token in tokens)


@every_engine
def test_tokenizing_settles_the_limit_and_refuses_what_cannot_fit(name: str, template: ChatTemplate) -> None:
    engine = ENGINES[name](template)
    request = engine.tokenize(asking(max_tokens=None))
    assert request.prompt_ids and request.request.sampling.max_tokens
    with pytest.raises(PromptTooLong):
        engine.tokenize(asking("word " * 500))
    with pytest.raises(DataError):
        engine.tokenize(asking("refuse" if name == "fake" else ""))


@every_engine
def test_what_is_aborted_is_forgotten_and_the_others_go_on(name: str, template: ChatTemplate) -> None:
    engine = ENGINES[name](template)
    engine.add(engine.tokenize(asking(seed=1)), [7])
    engine.add(engine.tokenize(asking(seed=2)), [8])
    engine.step([7, 8])
    first = engine.chunk(8)
    engine.abort([7, 99])
    rest = [first]
    while rest[-1].stop is None:
        engine.step([8])
        rest.append(engine.chunk(8))
    assert text(rest) == text(written(ENGINES[name](template), asking(seed=2))[0])
    engine.check_health()
