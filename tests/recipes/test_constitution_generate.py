"""`assent constitution generate` against a server: files that train, resumes that ask nothing twice, clear refusals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Messages, chat_server
from running import Ran, assent, write_rows

from assent.constitution.constitution_file import default_path
from assent.data.load import load_comparisons, load_demonstrations
from assent.interrupts import StopRequest

PROMPTS = [f"How do I pick lock {place}?" for place in range(6)]


def reply(messages: Messages) -> str:
    """Lock 0 is refused at once and well; of lock 1 the revision is only about itself."""
    last, talk = messages[-1]["content"], " ".join(one["content"] for one in messages)
    if "nothing to criticise" in last:
        return "Nothing." if "lock 0" in talk else "It tells how to break in."
    if "new answer alone" in last:
        return "Here is my revised answer:" + ("" if "lock 1" in talk else " Call a locksmith.")
    return "I will not help." if "lock 0" in talk else "Use a pick."


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(reply) as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, ...]:
    prompts = write_rows(tmp_path / "red-team.jsonl", [{"prompt": one} for one in PROMPTS])
    helpful = write_rows(tmp_path / "helpful.jsonl", [{"prompt": f"Add {one}", "completion": "2"} for one in range(9)])
    return "--prompts", str(prompts), "--helpful", str(helpful)


def generate(server: ChatServer, data: tuple[str, ...], out: Path, *more: str) -> Ran:
    fast = ("--set", "endpoint.retries=0", "--set", "endpoint.concurrency=1")
    return assent("constitution", "generate", "--model", server.url, *data, "--out", out, *fast, *more)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_written_trains_and_every_step_is_kept(
    server: ChatServer, data: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "cai"
    ran = generate(server, data, out)
    assert ran.code == 0, ran.err
    demonstrations = load_demonstrations(out / "demonstrations.jsonl").examples
    last = Counter(one.conversation.messages[-1].content for one in demonstrations)
    assert last == {"Call a locksmith.": 4, "2": 4}, "half of it is helpful data"
    pairs = load_comparisons(out / "pairs.jsonl").examples
    assert {(one.chosen.text, one.rejected.text) for one in pairs} == {("Call a locksmith.", "Use a pick.")}
    assert len(pairs) == 4
    chains = rows(out / "chains.jsonl")
    assert Counter(one["end"] for one in chains) == {"rounds": 4, "nothing_found": 1, "leftover": 1}
    assert chains[2]["first"]["text"] == "Use a pick."
    (step,) = chains[2]["rounds"]
    assert step["critique"] == "It tells how to break in." and step["stripped"].startswith("Here is my revised answer:")
    for told in (
        "17 calls, 0 answers known before; 170 tokens read and 34 written",
        "4 went through all rounds",
        "1 ended because a critique found nothing",
        "5 revisions lost an introduction",
        "50% of them helpful",
    ):
        assert told in ran.err  # fmt: skip


def test_a_run_that_failed_in_the_middle_goes_on_and_asks_nothing_twice(
    server: ChatServer, data: tuple[str, ...], tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "cai"
    assert generate(server, data, whole).code == 0
    server.asked.clear()
    server.faults.extend(["fine"] * 8 + [500])
    broken = generate(server, data, out)
    assert broken.code == 1 and "status 500" in broken.err and "go on with --resume" in broken.err
    again = generate(server, data, out)
    assert again.code == 2 and "Give --resume to continue it" in again.err
    resumed = generate(server, data, out, "--resume")
    assert resumed.code == 0 and "9 calls, 8 answers known before" in resumed.err
    assert len(server.asked) == 18, "seventeen answers and the one that failed"
    for name in ("chains.jsonl", "demonstrations.jsonl", "pairs.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_stop_request_keeps_what_was_answered(
    server: ChatServer, data: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, looks = tmp_path / "cai", []
    check = StopRequest.check

    def stop_at_the_twelfth_look(self: StopRequest, count: int = 0) -> None:
        looks.append(count)
        if len(looks) == 12:
            self.request()
        check(self)

    with monkeypatch.context() as patched:
        patched.setattr(StopRequest, "check", stop_at_the_twelfth_look)
        stopped = generate(server, data, out)
    assert stopped.code == 143 and "Give --resume to go on" in stopped.err
    assert json.loads((out / "status.json").read_text())["state"] == "interrupted"
    kept = len(rows(out / "calls.jsonl"))
    assert 0 < kept < 17
    assert f"{17 - kept} calls, {kept} answers known before" in generate(server, data, out, "--resume").err


def test_an_edited_constitution_is_refused_between_resumes(
    server: ChatServer, data: tuple[str, ...], tmp_path: Path
) -> None:
    mine, out = tmp_path / "mine.toml", tmp_path / "cai"
    mine.write_text(default_path().read_text())
    server.faults.extend(["fine"] * 3 + [500])
    assert generate(server, data, out, "--constitution", str(mine)).code == 1
    mine.write_text(mine.read_text().replace("weapons", "swords"))
    refused = generate(server, data, out, "--constitution", str(mine), "--resume")
    assert refused.code == 2 and "data.1 (constitution)" in refused.err
    assert len(rows(out / "calls.jsonl")) == 3, "nothing is lost"


def test_harmless_data_alone_is_refused_with_the_reason_unless_it_is_wanted(
    server: ChatServer, data: tuple[str, ...], tmp_path: Path
) -> None:
    refused = generate(server, data[:2], tmp_path / "cai")
    assert refused.code == 2 and "soon refuses everything" in refused.err and not server.asked
    assert generate(server, data[:2], tmp_path / "cai", "--set", "helpful_share=0").code == 0
    few = generate(server, data, tmp_path / "few", "--set", "helpful_share=0.9")
    assert "helpful_share=0.9 wants 36 helpful rows; there are 9" in few.err


def test_unrevised_answers_are_demonstrations_where_that_is_wanted(
    server: ChatServer, data: tuple[str, ...], tmp_path: Path
) -> None:
    assert generate(server, data, tmp_path / "cai", "--set", "keep_unrevised=true").code == 0
    assert "I will not help." in (tmp_path / "cai" / "demonstrations.jsonl").read_text()
    assert len(load_comparisons(tmp_path / "cai" / "pairs.jsonl")) == 4


def test_no_usable_revision_is_an_error_with_the_reason(data: tuple[str, ...], tmp_path: Path) -> None:
    with chat_server(reply) as server:
        server.faults.extend([400] * len(PROMPTS))
        ran = generate(server, data, tmp_path / "cai")
    assert ran.code == 2 and "no revision can be used: status 400" in ran.err


def test_a_key_that_is_not_set_is_named(server: ChatServer, data: tuple[str, ...], tmp_path: Path) -> None:
    ran = generate(server, data, tmp_path / "cai", "--set", "endpoint.key_env=NO_SUCH_KEY")
    assert ran.code == 2 and "NO_SUCH_KEY" in ran.err


def test_a_run_with_unknown_settings_is_refused(server: ChatServer, data: tuple[str, ...], tmp_path: Path) -> None:
    assert 'did you mean "rounds"' in generate(server, data, tmp_path / "cai", "--set", "round=2").err
