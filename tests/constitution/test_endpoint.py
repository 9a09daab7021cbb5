"""An OpenAI-compatible address that misbehaves: every fault has its rule, and no answer is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from chat_server import ChatServer, chat_server

from assent.constitution.call_record import RecordedModel
from assent.constitution.chat_model import ask
from assent.constitution.endpoint import Endpoint, EndpointOptions
from assent.errors import BackendError, ConfigError, RunError
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import SamplingParams
from assent.types import Conversation, StopReason


def requests(count: int, *, top_logprobs: int | None = None) -> list[GenerationRequest]:
    sampling = SamplingParams(max_tokens=4, temperature=0.0, top_logprobs=top_logprobs)
    return [
        GenerationRequest(prompt=Conversation.of_user(f"say {place}"), sampling=sampling, seed=place)
        for place in range(count)
    ]


def echo(messages: list[dict[str, str]]) -> tuple[str, dict[str, float]]:
    return messages[-1]["content"], {"say": -0.1, "tell": -2.0}


def opened(server: ChatServer, pauses: list[float] | None = None, **options: object) -> Endpoint:
    pauses = [] if pauses is None else pauses
    return Endpoint(server.url, EndpointOptions(**options), pause=pauses.append, clock=lambda: 0.0)


def texts(endpoint: Endpoint, count: int) -> list[str]:
    return [one.text for one in ask(endpoint, requests(count))]


def test_many_calls_at_once_come_back_in_their_places_with_their_tokens() -> None:
    with chat_server(echo) as server:
        endpoint = opened(server, concurrency=4)
        found = ask(endpoint, requests(20, top_logprobs=2))
        endpoint.close()
    assert [one.text for one in found] == [f"say {place}" for place in range(20)]
    assert found[0].likeliest == ({"say": -0.1, "tell": -2.0},)
    assert (found[0].prompt_tokens, found[0].completion_tokens) == (10, 2)
    assert server.asked[0]["model"] == "fake", "the only model of the server"


@pytest.mark.parametrize("fault", [429, 500, 503, 408, "half", "empty"])
def test_a_fault_that_may_pass_is_tried_again_after_a_growing_pause(fault: int | str) -> None:
    with chat_server(echo) as server:
        pauses: list[float] = []
        endpoint = opened(server, pauses, model="fake", concurrency=1)
        server.faults.extend([fault, fault])
        assert texts(endpoint, 2) == ["say 0", "say 1"]
        endpoint.close()
    assert len(server.asked) == 4
    assert 0.5 <= pauses[0] <= 1.0 <= pauses[1] <= 2.0


def test_a_server_that_does_not_answer_in_time_is_asked_again() -> None:
    with chat_server(echo) as server:
        endpoint = opened(server, model="fake", timeout_s=0.2)
        server.faults.append("silent")
        assert texts(endpoint, 1) == ["say 0"]
        endpoint.close()


def test_a_fault_that_stays_ends_with_the_reason_and_says_how_to_go_on() -> None:
    with chat_server(echo) as server:
        endpoint = opened(server, model="fake", retries=2, concurrency=1)
        server.faults.extend([503] * 3)
        with pytest.raises(BackendError, match=r"status 503; tried 3 times.*go on with --resume"):
            texts(endpoint, 1)
        endpoint.close()


def test_a_refused_request_is_its_own_answer_and_a_wrong_key_ends_the_run() -> None:
    with chat_server(echo) as server:
        endpoint = opened(server, model="fake", concurrency=1)
        server.faults.append(400)
        refused, fine = ask(endpoint, requests(2))
        assert (refused.stop, fine.text) == (StopReason.ERROR, "say 1") and "a fault" in refused.problem
        server.faults.append(401)
        with pytest.raises(ConfigError, match=r"status 401.*endpoint.key_env"):
            texts(endpoint, 1)
        endpoint.close()


def test_calls_are_spread_over_the_minute() -> None:
    with chat_server(echo) as server:
        pauses: list[float] = []
        endpoint = opened(server, pauses, model="fake", requests_per_minute=30, concurrency=1)
        texts(endpoint, 3)
        endpoint.close()
    assert pauses == [2.0, 4.0], "from a clock that stands still"


def test_a_server_of_several_models_must_be_told_which() -> None:
    with chat_server(echo, models=("small", "large")) as server, pytest.raises(ConfigError, match="small, large"):
        opened(server)


@pytest.mark.parametrize("logprobs", ["left out", "refused"])
def test_a_server_without_log_probabilities_still_answers(logprobs: str) -> None:
    with chat_server(echo, logprobs=logprobs) as server:
        endpoint = opened(server, model="fake")
        found = ask(endpoint, requests(3, top_logprobs=5))
        endpoint.close()
    assert [(one.text, one.likeliest) for one in found] == [(f"say {place}", ()) for place in range(3)]


def test_answers_outlive_a_server_that_fails_in_the_middle(tmp_path: Path) -> None:
    with chat_server(echo) as server:
        endpoint = opened(server, model="fake", retries=0, concurrency=1)
        server.faults.extend([400, "fine", "fine", 500])
        with RecordedModel(endpoint, tmp_path / "calls.jsonl") as recorded, pytest.raises(BackendError):
            ask(recorded, requests(6))
        endpoint.close()
        server.asked.clear()
        endpoint = opened(server, model="fake")
        with RecordedModel(endpoint, tmp_path / "calls.jsonl") as recorded:
            found = ask(recorded, requests(6))
            usage = recorded.usage
        endpoint.close()
    assert [one.text for one in found] == [f"say {place}" for place in range(6)]
    assert (len(server.asked), usage.calls, usage.known) == (4, 4, 2), "the refused one is asked again, two are known"
    assert usage.prompt_tokens == 60


def test_a_torn_last_line_and_a_full_disk_lose_no_earlier_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calls.jsonl"
    write, done = os.write, []

    def filling(descriptor: int, data: bytes) -> int:
        if len(done) >= 2:
            write(descriptor, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(data)
        return write(descriptor, data)

    with chat_server(echo) as server:
        endpoint = opened(server, model="fake", concurrency=1)
        with RecordedModel(endpoint, path) as recorded, monkeypatch.context() as patched:
            patched.setattr("assent.runs.logs.os.write", filling)
            with pytest.raises(RunError, match="no space left"):
                ask(recorded, requests(4))
        whole = path.read_bytes()
        assert whole.count(b"\n") == 2 and whole.endswith(b"\n")
        path.write_bytes(whole + b'{"step": 3, "key"')
        server.asked.clear()
        endpoint.close()
        endpoint = opened(server, model="fake")
        with RecordedModel(endpoint, path) as recorded:
            assert [one.text for one in ask(recorded, requests(4))] == [f"say {place}" for place in range(4)]
        endpoint.close()
    assert len(server.asked) == 2
