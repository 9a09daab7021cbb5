"""No request takes another one with it: failures of every kind, prompts that take long, halves of characters."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from serving.endpoint_fakes import WordEngine, listening

from assent.serving.endpoint import ServedModel, ServingLimits, create_endpoint
from assent.serving.openai_requests import ChatRequest

LIMITS = ServingLimits(most_rows=8, most_waiting=4)
HALF = "\ud83d"


@pytest.fixture
def engine() -> WordEngine:
    return WordEngine()


@pytest.fixture
def url(engine: WordEngine) -> Iterator[str]:
    with listening(create_endpoint({"tiny": ServedModel(engine=engine)}, limits=LIMITS)) as address:
        yield address
        engine.gate.set()
        engine.page.set()


def asking(text: str, **more: object) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "seed": 1, **more}


def post(url: str, sent: dict[str, object]) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/chat/completions", content=json.dumps(sent), headers={"content-type": "application/json"}, timeout=30
    )


@contextmanager
def stream_beside(url: str, engine: WordEngine) -> Iterator[Future[str]]:
    """A stream that has begun, held before its third word until the gate opens; its text comes out."""
    begun = threading.Event()

    def read() -> str:
        said = ""
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=asking("never", stream=True), timeout=30
        ) as answer:
            for line in answer.iter_lines():
                begun.set()
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    said += event["choices"][0]["delta"].get("content", "")
        return said

    engine.hold_at = 2
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        assert begun.wait(10)
        yield reading


def words(url: str) -> str:
    """What `stream_beside` says when it is alone."""
    return str(post(url, asking("never")).json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("unreadable", 500, "model_error"), ("unaddable", 500, "model_error"), ("break", 500, "model_error"),
        ("illegible", 500, "model_error"), ("heavy", 503, "out_of_memory"), ("refuse", 400, "invalid_value"),
        ("crowd", 500, "model_error"),
    ],
)  # fmt: skip
def test_what_one_request_does_to_the_model_is_that_requests_error_and_a_stream_beside_it_goes_on(
    url: str, engine: WordEngine, caplog: pytest.LogCaptureFixture, text: str, status: int, code: str, stream: bool
) -> None:
    alone = words(url)
    engine.widths.clear()
    with stream_beside(url, engine) as beside, ThreadPoolExecutor(1) as threads:
        answering = threads.submit(post, url, asking(text, stream=stream, n=2))
        engine.gate.set()
        answer, said = answering.result(), beside.result()
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"} and "on purpose" not in error["message"]
    assert said == alone
    assert ("Traceback" in caplog.text) == (status == 500) and httpx.get(f"{url}/healthz").json() == {
        "ok": True, "requests": 0,
    }  # fmt: skip
    assert post(url, asking("echo a")).status_code == 200


def test_a_crowd_of_bad_requests_leaves_the_good_ones_what_they_would_have_had(url: str, engine: WordEngine) -> None:
    texts = ["break", "never", "illegible", "heavy"]
    alone = words(url)
    with stream_beside(url, engine) as beside, ThreadPoolExecutor(4) as threads:
        answering = [threads.submit(post, url, asking(text)) for text in texts]
        engine.gate.set()
        answers = [one.result() for one in answering]
    assert [answer.status_code for answer in answers] == [500, 200, 500, 503]
    assert answers[1].json()["choices"][0]["message"]["content"] == alone == beside.result()


def test_a_model_that_cannot_write_at_all_ends_and_the_health_says_so(
    url: str, engine: WordEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    engine.broken = True
    answer = post(url, asking("hello"))
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    assert ended.wait(10) and httpx.get(f"{url}/healthz").status_code == 503
    again = post(url, asking("hello"))
    assert again.status_code == 503 and again.headers["retry-after"] == "1"


def test_prompts_that_take_long_to_read_stall_neither_streams_nor_short_requests(url: str, engine: WordEngine) -> None:
    alone = words(url)
    with stream_beside(url, engine) as beside, ThreadPoolExecutor(4) as threads:
        engine.page.clear()
        first = threads.submit(post, url, asking("long and first"))
        while "long and first" not in engine.read:
            threading.Event().wait(0.005)
        engine.gate.set()
        assert beside.result() == alone, "it ends while the long prompt is still being read"
        others = [threads.submit(post, url, asking(text)) for text in ("long and longer", "short")]
        while httpx.get(f"{url}/healthz").json()["requests"] < 3:
            threading.Event().wait(0.005)
        engine.page.set()
        assert [one.result().status_code for one in (first, *others)] == [200] * 3
    assert engine.read[-3:] == ["long and first", "short", "long and longer"]


def test_prompts_that_wait_to_be_read_count_as_waiting(url: str, engine: WordEngine) -> None:
    engine.page.clear()
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(post, url, asking("long")) for _ in range(4)]
        while httpx.get(f"{url}/healthz").json()["requests"] < 4:
            threading.Event().wait(0.005)
        assert post(url, asking("short")).status_code == 429
        engine.page.set()
        assert [one.result().status_code for one in waiting] == [200] * 4


def test_a_client_that_leaves_while_its_prompt_waits_is_not_read_for(url: str, engine: WordEngine) -> None:
    engine.page.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, url, asking("long"))
        while engine.read != ["long"]:
            threading.Event().wait(0.005)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=asking("nobody waits for this"), timeout=0.2)
        httpx.get(f"{url}/healthz")
        engine.page.set()
        assert first.result().status_code == 200
    assert post(url, asking("echo a")).status_code == 200
    assert "nobody waits for this" not in engine.read


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"messages": [{"role": "user", "content": HALF}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": f"a{HALF}b"}]}, "messages.1"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]}, "messages.0"),
        ({"messages": [{"role": HALF, "content": "a"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "a", "name": HALF}]}, "messages.0"),
        ({"messages": HALF}, "messages"),
        ({"stop": HALF}, "stop"), ({"stop": ["a", HALF]}, "stop"), ({"user": HALF}, "user"), ({"seed": HALF}, "seed"),
        ({"metadata": {"a": {HALF: 1}}}, "metadata"), ({"temperature": HALF}, "temperature"),
        ({HALF: 1}, "\\ud83d"), ({"tools": [HALF]}, "tools"), ({"stream_options": {HALF: 1}}, "stream_options"),
    ],
)  # fmt: skip
def test_half_a_surrogate_pair_anywhere_is_refused_with_its_place(
    url: str, changed: dict[str, object], param: str, as_bytes: bool
) -> None:
    sent = json.dumps(asking("hello") | changed, ensure_ascii=not as_bytes).encode("utf-8", "surrogatepass")
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{url}/v1/chat/completions", content=sent, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert "surrogate pair" in answer.json()["error"]["message"] and post(url, asking("echo a")).status_code == 200


def test_half_a_character_in_a_plain_prompt_or_as_a_models_name_is_refused_too(url: str) -> None:
    headers = {"content-type": "application/json"}
    sent = json.dumps({"model": "tiny", "prompt": f"a{HALF}"})
    assert httpx.post(f"{url}/v1/completions", content=sent, headers=headers).status_code == 400
    answer = post(url, asking("hello") | {"model": f"a{HALF}"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"
    assert "'a\\ud83d'" in answer.json()["error"]["message"]
    assert httpx.get(f"{url}/v1/models/%ED%A0%BD").status_code == 404


def test_a_whole_pair_is_a_character(url: str) -> None:
    assert post(url, asking("echo \U0001f600")).json()["choices"][0]["message"]["content"] == "\U0001f600 "


@pytest.mark.parametrize(
    "changed",
    [
        {"messages": [{"role": "user", "content": [0] * 100_000}]}, {"stop": [0] * 100_000},
        {"messages": [0] * 100_000}, {f"k{number}": 0 for number in range(50_000)},
        {"messages": [{"role": "user", "content": "a"} | {f"k{number}": 0 for number in range(50_000)}]},
    ],
)  # fmt: skip
def test_of_a_hundred_thousand_mistakes_the_first_is_told(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError) as refused:
        ChatRequest.model_validate(asking("hello") | changed)
    assert len(refused.value.errors()) <= 2


def test_a_mistake_of_the_endpoints_own_is_told_in_the_interfaces_form(engine: WordEngine) -> None:
    app = create_endpoint({"tiny": ServedModel(engine=engine)})

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("a secret detail")

    with listening(app) as address:
        answer = httpx.get(f"{address}/broken")
        assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
        assert "secret" not in answer.text
        slash = httpx.post(f"{address}/v1/completions/", json={})
        assert slash.status_code == 404, "no redirection: clients send their key along with it"
        assert httpx.put(f"{address}/v1/models").headers["allow"] == "GET"


def test_a_body_that_comes_too_slowly_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assent.web.limits._BODY_S", 0.2)
    host, port = url.removeprefix("http://").split(":")
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(head)
        said, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 408 ") and json.loads(body)["error"]["code"] == "timeout"


@pytest.mark.parametrize(("sent", "asked"), [(1e-300, 0.0), (1e-6, 0.0), (0, 0.0), (0.5, 0.5), (None, 1.0)])
def test_a_temperature_that_no_float_can_divide_by_is_greedy(sent: float | None, asked: float) -> None:
    request = ChatRequest.model_validate(asking("hello", temperature=sent))
    assert request.generation_request(0).sampling.temperature == asked
