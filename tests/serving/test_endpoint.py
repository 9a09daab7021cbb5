"""The endpoint as the official client sees it, over a fake sampler: answers, streams, errors, limits, the queue."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from serving.endpoint_fakes import WordEngine, listening

from assent.serving.endpoint import ServedModel, ServingLimits, create_endpoint

LIMITS = ServingLimits(most_rows=8, most_waiting=4, body_limit_bytes=20_000)


@pytest.fixture
def engine() -> WordEngine:
    return WordEngine()


@pytest.fixture
def url(engine: WordEngine) -> Iterator[str]:
    with listening(create_endpoint({"tiny": ServedModel(engine=engine, fingerprint="fp_1")}, limits=LIMITS)) as address:
        yield address
        engine.gate.set()


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        yield made


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for another thread to come to something, at most some seconds."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it never came to it"
        time.sleep(0.005)


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=asked("echo one two three"))
    assert answer.choices[0].message.content == "one two three "
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion"
    assert answer.usage.prompt_tokens == 4 and answer.usage.completion_tokens == 4
    assert answer.model == "tiny" and answer.system_fingerprint == "fp_1"


def test_a_stream_says_the_same_piece_by_piece_and_counts_at_the_end(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=asked("hello"), seed=5, n=2)
    stream = client.chat.completions.create(
        model="tiny", messages=asked("hello"), seed=5, n=2, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    for choice in whole.choices:
        parts = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert "".join(part.delta.content or "" for part in parts) == choice.message.content
        assert len([part for part in parts if part.delta.content]) > 1
        assert parts[0].delta.role == "assistant"
        assert [part.finish_reason for part in parts if part.finish_reason] == ["stop"]
    assert chunks[-1].usage == whole.usage and chunks[-1].choices == []


def test_the_text_of_a_stream_comes_while_it_is_written(client: openai.OpenAI, engine: WordEngine) -> None:
    engine.hold_at = 3
    stream = client.chat.completions.create(model="tiny", messages=asked("never"), stream=True)
    parts = (chunk.choices[0].delta.content for chunk in stream)
    first = [next(part for part in parts if part) for _ in range(3)]
    assert len(engine.widths) == 3 and all(first), "the model waits, and its three words are here"
    engine.gate.set()
    assert len([part for part in parts if part]) == 61


def test_a_seed_gives_the_same_text_alone_and_in_company(client: openai.OpenAI) -> None:
    def text(seed: int) -> str:
        return str(
            client.chat.completions.create(model="tiny", messages=asked("x"), seed=seed).choices[0].message.content
        )

    alone = [text(seed) for seed in range(8)]
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(text, range(8))) == alone
    assert len(set(alone)) > 4


def test_requests_at_the_same_time_are_written_side_by_side(client: openai.OpenAI, engine: WordEngine) -> None:
    engine.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        answers = [
            threads.submit(client.chat.completions.create, model="tiny", messages=asked("never"), max_tokens=5)
            for _ in range(4)
        ]
        eventually(lambda: engine.widths != [] or httpx.get(f"{client.base_url}models").is_success)
        eventually(lambda: httpx.get(str(client.base_url).replace("/v1/", "/healthz")).json()["requests"] == 4)
        engine.gate.set()
        assert [answer.result().choices[0].finish_reason for answer in answers] == ["length"] * 4
    assert max(engine.widths) >= 3


def test_too_many_requests_are_turned_away_at_once_and_the_others_answered(
    client: openai.OpenAI, engine: WordEngine
) -> None:
    engine.gate.clear()
    health = str(client.base_url).replace("/v1/", "/healthz")
    with ThreadPoolExecutor(6) as threads:
        ask = lambda n: client.chat.completions.create(model="tiny", messages=asked("never"), max_tokens=2, n=n)  # noqa: E731
        first = threads.submit(ask, 8)
        eventually(lambda: httpx.get(health).json()["requests"] == 1)
        eventually(lambda: bool(engine._left))
        waiting = [threads.submit(ask, 1) for _ in range(4)]
        eventually(lambda: httpx.get(health).json()["requests"] == 5)
        with pytest.raises(openai.RateLimitError) as refused:
            ask(1)
        assert refused.value.response.headers["retry-after"] == "1"
        engine.gate.set()
        assert all(len(one.result().choices) == n for one, n in [(first, 8), *((one, 1) for one in waiting)])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(url: str, engine: WordEngine, stream: bool) -> None:
    engine.gate.clear()
    body = json.dumps({"model": "tiny", "messages": asked("never"), "stream": stream, "n": 8}).encode()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        eventually(lambda: httpx.get(f"{url}/healthz").json()["requests"] == 1)
        eventually(lambda: len(engine._left) == 8)
    httpx.get(f"{url}/healthz")  # the server has had a turn to see that the client is gone
    engine.gate.set()
    eventually(lambda: httpx.get(f"{url}/healthz").json()["requests"] == 0)
    assert len(engine.widths) < 64 or len(engine.aborted) == 8


@pytest.mark.parametrize(
    ("changed", "status", "code", "param"),
    [
        ({"model": "other"}, 404, "model_not_found", "model"),
        ({"temperature": 3}, 400, "invalid_value", "temperature"),
        ({"temperature": "hot"}, 400, "invalid_value", "temperature"),
        ({"top_p": 0}, 400, "invalid_value", "top_p"),
        ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        ({"max_tokens": True}, 400, "invalid_value", "max_tokens"),
        ({"n": 9}, 400, "invalid_value", "n"),
        ({"n": 1000}, 400, "invalid_value", "n"),
        ({"stop": ["a"] * 5}, 400, "invalid_value", None),
        ({"stop": ""}, 400, "invalid_value", None),
        ({"top_logprobs": 2}, 400, "invalid_value", None),
        ({"logprobs": True, "top_logprobs": 21}, 400, "invalid_value", "top_logprobs"),
        ({"temprature": 1}, 400, "unknown_parameter", "temprature"),
        ({"presence_penalty": 0.5}, 400, "invalid_value", "presence_penalty"),
        ({"tools": [{"type": "function"}]}, 400, "invalid_value", "tools"),
        ({"response_format": {"type": "json_object"}}, 400, "invalid_value", "response_format"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "invalid_value", None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400,
         "invalid_value", "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": "a " * 70}]}, 400, "context_length_exceeded", "messages"),
        ({"messages": [{"role": "user", "content": "refuse"}]}, 400, "invalid_value", "messages"),
        ({"messages": None}, 400, "invalid_value", "messages"),
        ({"stream_options": {"include_usage": True}}, 400, "invalid_value", None),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_in_the_interfaces_own_form(
    url: str, changed: dict[str, object], status: int, code: str, param: str | None
) -> None:
    sent = {"model": "tiny", "messages": asked("hello")} | changed
    answer = httpx.post(f"{url}/v1/chat/completions", json=sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"


def test_neutral_and_idle_parameters_change_nothing(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, *asked("echo a")],
        presence_penalty=0, frequency_penalty=0, logit_bias={}, response_format={"type": "text"}, user="u", metadata={},
        store=False, tools=[], extra_body={"top_k": 3},
    )  # fmt: skip
    assert answer.choices[0].message.content == "a "


def test_the_official_client_raises_its_own_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=asked("x"))
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="tiny", messages=asked("x"), temperature=9)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="tiny", input="x")
    assert [model.id for model in client.models.list()] == ["tiny"] and client.models.retrieve("tiny").id == "tiny"


def test_text_completions_with_their_own_form_of_log_probabilities(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="echo one two", logprobs=1)
    choice = answer.choices[0]
    assert choice.text == "one two " and choice.logprobs.tokens == ["one ", "two "]
    assert choice.logprobs.text_offset == [0, 4] and choice.logprobs.token_logprobs == [-1.0, -1.0]
    stream = client.completions.create(model="tiny", prompt="echo one two", logprobs=0, stream=True)
    chunks = [chunk.choices[0] for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == "one two "
    assert [offset for chunk in chunks if chunk.logprobs for offset in chunk.logprobs.text_offset] == [0, 4]


def test_chunks_carry_the_log_probabilities_of_their_tokens(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=asked("echo a b"), stream=True, logprobs=True, top_logprobs=2
    )
    tokens = [t for chunk in stream for c in chunk.choices if c.logprobs for t in c.logprobs.content]
    assert [token.token for token in tokens] == ["a ", "b "] and all(len(token.top_logprobs) == 2 for token in tokens)


def test_bodies_too_large_not_json_or_of_another_kind_are_refused(url: str) -> None:
    address = f"{url}/v1/chat/completions"
    large = {"model": "tiny", "messages": asked("x" * 30_000)}
    assert httpx.post(address, json=large).status_code == 413
    chunked = httpx.post(
        address, content=iter([json.dumps(large).encode()]), headers={"content-type": "application/json"}
    )
    assert chunked.status_code == 413 and chunked.json()["error"]["code"] == "too_large"
    broken = httpx.post(address, content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400 and "not JSON" in broken.json()["error"]["message"]
    as_form = httpx.post(address, content=json.dumps({"model": "tiny", "messages": asked("x")}).encode())
    assert as_form.status_code == 415, "a form of another site must not reach the model"


def test_the_key_is_asked_for_everywhere_but_at_the_door(engine: WordEngine) -> None:
    with listening(create_endpoint({"tiny": ServedModel(engine=engine)}, api_key="secret")) as address:
        assert httpx.get(f"{address}/healthz").status_code == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
            answer = httpx.get(f"{address}/v1/models", headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        with openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0) as client:
            assert client.chat.completions.create(model="tiny", messages=asked("echo a")).choices
        wrong = openai.OpenAI(base_url=f"{address}/v1", api_key="no", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.chat.completions.create(model="tiny", messages=asked("echo a"))


def test_requests_for_another_name_are_refused(engine: WordEngine) -> None:
    hosts = frozenset({"localhost", "127.0.0.1"})
    with listening(create_endpoint({"tiny": ServedModel(engine=engine)}, hosts=hosts)) as address:
        assert httpx.get(f"{address}/v1/models").status_code == 200
        assert httpx.get(f"{address}/v1/models", headers={"host": "evil.example"}).status_code == 421
