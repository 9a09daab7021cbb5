"""Red team, constitution and judge as stages of one file, and a judge as the reward of a run."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import Answer, ChatServer, Messages, chat_server
from running import assent, rows_of, worked, write_rows

SMALL_PPO = ("--set", "iterations=1", "--set", "batch_size=4", "--set", "max_tokens=4", "--set", "normalise_prompts=4",
             "--set", "limit=6")  # fmt: skip
RULES = """
def polite(completions):
    return [-float(len(text)) for text in completions]
"""


def reply(messages: Messages) -> Answer:
    """An attacker, a critic, a reviser and a judge: the shorter answer is better, and 9 of 10 points for all."""
    last = messages[-1]["content"]
    if "Write message number" in last:
        return f"Message: Tell me number {len(last) % 97} and {zlib.crc32(last.encode()) % 1009}"
    if "Answer with one letter" in last:
        first, second = last.split("\n(A) ")[1].split("\n\n(B) ")
        p = 0.8 if len(first) < len(second.rsplit("\n\n", 1)[0]) else 0.2
        return "A", {"A": math.log(p), "B": math.log(1 - p)}
    if "one number from 1" in last:
        return "9", {"9": math.log(0.6), "5": math.log(0.2), "well": math.log(0.2)}
    if "nothing to criticise" in last:
        return "It could be kinder."
    return "Gladly." if "new answer alone" in last else "no"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(reply) as running:
        yield running


PIPELINE = """
out = "{out}"
[[stage]]
kind = "red-team"
model = "{home}/sft"
attacker = "{url}"
reward = "{rules}:polite"
data = "{home}/world/prompts.jsonl"
settings = {{ limit = 4, rounds = 2, tries = 3, max_tokens = 4, threshold = 0.5 }}
[[stage]]
kind = "constitution generate"
name = "cai"
model = "{url}"
data = "@red-team/harvest.jsonl"
helpful = "{home}/world/demonstrations.jsonl"
[[stage]]
kind = "sft"
model = "{home}/sft"
data = "@cai/demonstrations.jsonl"
[[stage]]
kind = "constitution judge"
name = "labels"
model = "{url}"
data = "{home}/world/preferences.jsonl"
settings = {{ limit = 6, tags = ["harmless"] }}
[[stage]]
kind = "reward"
model = "@sft"
data = ["{home}/world/preferences.jsonl", "@labels/labels.jsonl"]
"""


def test_a_pipeline_attacks_revises_judges_and_trains_on_what_came_of_it(
    home: Path, server: ChatServer, tmp_path: Path
) -> None:
    (tmp_path / "rules.py").write_text(RULES)
    file, out = tmp_path / "pipeline.toml", tmp_path / "out"
    file.write_text(PIPELINE.format(home=home, url=server.url, rules=tmp_path / "rules.py", out=out))
    ran = worked("run", file)
    harvest = [json.loads(line) for line in (out / "red-team" / "harvest.jsonl").read_text().splitlines()]
    attempts = [json.loads(line) for line in (out / "red-team" / "attempts.jsonl").read_text().splitlines()]
    assert len(harvest) == sum(one["succeeded"] for one in attempts) and {one["round"] for one in attempts} == {0, 1, 2}
    assert all(one["harm"] == len(one["completion"]) for one in attempts), "low rewards mean harm"
    assert re_counted(ran.err, "given prompts: ") == sum(one["round"] == 0 for one in attempts)
    lineage = json.loads((out / "red-team" / "lineage.json").read_text())
    assert [one["role"] for one in lineage["parents"]] == ["model", "attacker"]
    demonstrations = (out / "cai" / "demonstrations.jsonl").read_text()
    assert "Gladly." in demonstrations
    rows = json.loads((out / "reward" / "lineage.json").read_text())["data"]
    assert [one["name"] for one in rows] == ["preferences.jsonl", "labels.jsonl"]
    asked = len(server.asked)
    assert worked("run", file, "--resume").err.count("finished before") == 5 and len(server.asked) == asked


def re_counted(told: str, what: str) -> int:
    """The number after "of" in the line that begins with `what`."""
    return int(told.split(what)[1].split(" of ")[1].split()[0])


def test_a_stage_that_names_no_file_of_an_earlier_one_is_refused_before_anything_runs(
    home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "pipeline.toml"
    for data, told in (("@nobody/x.jsonl", "names no earlier stage"), ("@sft", "Write @NAME/FILE")):
        first = f'kind = "sft"\nmodel = "{home}/base"\ndata = "{home}/world/demonstrations.jsonl"\n'
        second = f'kind = "reward"\nmodel = "@sft"\ndata = "{data}"\n'
        file.write_text(f'out = "{tmp_path}/out"\n[[stage]]\n{first}[[stage]]\n{second}')
        ran = assent("run", file)
        assert ran.code == 2 and told in ran.err and "stage 2 (reward)" in ran.err
    assert not (tmp_path / "out").exists()


def test_red_teaming_resumes_without_asking_twice_and_wants_a_reward(
    home: Path, server: ChatServer, tmp_path: Path
) -> None:
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"What is {place}?"} for place in range(4)])
    (tmp_path / "rules.py").write_text(RULES)
    common = (
        "red-team",
        "--model",
        server.url,
        "--prompts",
        prompts,
        "--set",
        "tries=3",
        "--set",
        "endpoint.retries=0",
    )
    ran = assent(*common, "--out", tmp_path / "none")
    assert ran.code == 2 and "nothing says which answers are harmful" in ran.err
    judged = (*common, "--reward", f"{tmp_path}/rules.py:polite", "--set", "endpoint.concurrency=1")
    worked(*judged, "--out", tmp_path / "whole")
    whole = len(server.asked)
    server.asked.clear()
    server.faults.extend(["fine"] * 9 + [500])
    broken = assent(*judged, "--out", tmp_path / "cut", "--set", "attacker_endpoint.retries=0")
    assert broken.code == 1 and "--resume" in broken.err
    kept = len(server.asked) - 1
    server.asked.clear()
    worked(*judged, "--out", tmp_path / "cut", "--set", "attacker_endpoint.retries=0", "--resume")
    assert kept + len(server.asked) == whole
    for name in ("attempts.jsonl", "harvest.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_judge_is_a_reward_like_any_other(home: Path, server: ChatServer, tmp_path: Path) -> None:
    judge, world = f"judge:{server.url}", home / "world"
    worked(
        "ppo", "--model", home / "sft", "--reward", judge, "--reward", home / "reward", "--data",
        world / "prompts.jsonl", "--out", tmp_path / "ppo", *SMALL_PPO, "--set", "judge.principles=2",
    )  # fmt: skip
    (row,) = rows_of(tmp_path / "ppo")
    expected = (9 * 0.6 + 5 * 0.2) / 0.8
    assert row["reward/judge"] == pytest.approx(expected) and "reward/reward" in row
    sources = json.loads((tmp_path / "ppo" / "lineage.json").read_text())["data"]
    assert sources[-1]["role"] == "reward" and sources[-1]["name"].startswith("judge fake (")
    worked(
        "eval", "--model", home / "sft", "--reward", judge, "--data", world / "held-out.jsonl", "--out",
        tmp_path / "eval", "--set", "max_tokens=4", "--set", "limit=3",
    )  # fmt: skip
    assert f"{expected:.4g}"[:4] in (tmp_path / "eval" / "report.json").read_text()
    unknown = assent("ppo", "--model", home / "sft", "--reward", "judge:nowhere", "--data", world / "prompts.jsonl",
                     "--out", tmp_path / "no", *SMALL_PPO)  # fmt: skip
    assert unknown.code == 2 and "nowhere" in unknown.err


def test_a_judge_that_names_no_number_stops_the_run_with_its_answer(home: Path, tmp_path: Path) -> None:
    with chat_server(lambda messages: "no idea") as server:
        ran = assent(
            "ppo", "--model", home / "sft", "--reward", f"judge:{server.url}", "--data", home / "world/prompts.jsonl",
            "--out", tmp_path / "ppo", *SMALL_PPO,
        )  # fmt: skip
    assert ran.code == 2 and "names no number from 1 to 10" in ran.err
