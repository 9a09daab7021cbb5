"""A cut of the fuzzer of `assent serve`; the whole is `python -m benchmarks.serve_fuzz`."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.serve_fuzz import make_model, run, serving
from benchmarks.serve_requests import Connection, plain


@pytest.mark.slow
def test_no_request_whatever_ends_the_server_or_gets_no_answer(tmp_path: Path) -> None:
    outcome = run(300, seed=1, clients=4, families=["chatml", "fragile"], folder=tmp_path)
    assert outcome.wrong == []
    told = sum(outcome.statuses.values(), start=outcome.statuses["chatml"].__class__())
    assert told["200"] > 60 and told["400"] > 60 and {"404", "405", "413", "left"} <= set(told)


@pytest.mark.slow
def test_half_sent_heads_are_cut_off_and_others_answered(tmp_path: Path) -> None:
    make_model(tmp_path / "chatml", "chatml")
    settings = ("--set", "connections_per_address=20", "--set", "head_timeout_s=1")
    with serving(tmp_path / "chatml", tmp_path / "log", *settings) as (_, port), ExitStack() as stack:
        for _ in range(120):
            head = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            with suppress(ConnectionError):
                head.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert Connection.once(port, plain(), "POST", kind="chat") == 200
        assert head.makefile("rb").read().startswith(b"HTTP/1.1 408 ")
