"""Whole rounds against a real studio: simulated people label over HTTP, and a cut round goes on where it was."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import Answer, Messages, chat_server
from running import Ran, assent, worked
from serving_processes import PASSWORD, served

from assent.recipes.annotation.rounds import STAGES, find_round
from assent.recipes.annotation.studio_client import PASSWORD_VARIABLE, StudioClient

pytestmark = pytest.mark.slow
BASE = Path(__file__).parents[2] / "src" / "assent" / "world" / "base"
SMALL = (
    "prompts=18", "questions=9", "acquisition.samples_per_prompt=3", "acquisition.max_tokens=12",
    'annotators="simulated"', "machine.threads=1", "reward.epochs=1", "reward.batch_size=4", "reward.max_length=200",
    "evaluation.limit=18", "evaluation.max_tokens=12",
)  # fmt: skip
PPO = (
    "policy.iterations=1", "policy.batch_size=8", "policy.mini_batches=2", "policy.max_tokens=12",
    "policy.normalise_prompts=4",
)  # fmt: skip
DPO = ('algorithm="dpo"', "policy.epochs=1", "policy.batch_size=4", "policy.max_length=200")


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[str]:
    """A studio of its own with an admin called admin."""
    with served(["studio", "--store", str(tmp_path / "studio.db"), "--port", "0"]) as url:
        yield url


def _flags(studio: str, out: Path, settings: tuple[str, ...]) -> list[object]:
    chosen = [flag for setting in (*SMALL, *settings) for flag in ("--set", setting)]
    return ["round", "--model", BASE, "--data", "world", "--studio", studio, "--out", out, *chosen]


def _round(studio: str, out: Path, settings: tuple[str, ...]) -> Ran:
    return worked(*_flags(studio, out, settings))


def test_two_rounds_with_simulated_people_over_http_leave_policies_and_evidence(studio: str, tmp_path: Path):
    out = tmp_path / "rounds"
    _round(studio, out, PPO)
    _round(studio, out, PPO)
    for number in (1, 2):
        folder = out / f"round-{number}"
        assert json.loads((folder / "round.json").read_text())["done"] == list(STAGES)
        judged = (folder / "preferences.jsonl").read_text().splitlines()
        assert 9 * (number - 1) < len(judged) <= 9 * number
        assert (folder / "policy" / "model" / "model.safetensors").is_file()
        gold = json.loads((folder / "evaluation" / "report.json").read_text())["gold"]
        names = {"base", "policy"} if number == 1 else {"round-1/policy", "round-2/policy"}
        assert names <= set(gold)
    assert find_round(out, "x").number == 3
    assert find_round(out, "x").start == str(out / "round-2" / "policy" / "model")
    with StudioClient(studio) as client:
        client.sign_in("admin", PASSWORD)
        people = {person["name"].split("-")[0] for person in client.get("/api/people")}
    assert {"careful", "careless", "likes_length", "likes_flattery"} <= people


def test_a_cut_round_goes_on_after_its_last_finished_stage(studio: str, tmp_path: Path):
    out, settings = tmp_path / "rounds", (*DPO, "adaptive_overlap=3")
    _round(studio, out, settings)
    file = out / "round-1" / "round.json"
    document = json.loads(file.read_text())
    weights = (out / "round-1" / "policy" / "model" / "model.safetensors").read_bytes()
    file.write_text(json.dumps({**document, "done": ["ask"]}))
    _round(studio, out, settings)
    assert json.loads(file.read_text())["done"] == list(STAGES)
    assert (out / "round-1" / "policy" / "model" / "model.safetensors").read_bytes() == weights
    assert not (out / "round-2").exists()
    with StudioClient(studio) as client:
        client.sign_in("admin", PASSWORD)
        queue = list(client.queue(client.project("rounds")))
        progress = client.get(f"/api/projects/{client.project('rounds')}/progress")
    assert all(len(item["predicted"]) == 2 and 1 <= item["overlap"] <= 3 for item in queue)
    assert progress["labels_wanted"] >= progress["labels_given"] >= len(queue)


def test_other_settings_in_the_same_folder_are_refused_by_name(studio: str, tmp_path: Path):
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "rounds.json").write_text(json.dumps({"questions": 5}))
    refused = assent(*_flags(studio, tmp_path / "rounds", PPO))
    assert refused.code == 2 and "questions" in refused.err and "Traceback" not in refused.err


def of_two_answers(messages: Messages) -> Answer:
    """Sure that the shorter is better, but for pairs whose lengths add up to an odd number."""
    first, second = messages[-1]["content"].split("\n(A) ")[1].split("\n\n(B) ")
    second = second.rsplit("\n\n", 1)[0]
    odd = len(first) % 2 != len(second) % 2
    p = 0.5 if odd or first == second else 0.9 if (len(first), first) < (len(second), second) else 0.1
    return "A", {"A": math.log(p), "B": math.log(1 - p)}


def test_a_judge_is_asked_first_and_people_about_what_it_is_not_sure_of(studio: str, tmp_path: Path):
    out = tmp_path / "rounds"
    with chat_server(of_two_answers) as server:
        judged = (f'judge.model="{server.url}"', "judge.audit_share=0.5", "overlap=1")
        ran = _round(studio, out, (*DPO, *judged))
    settled, audited = map(int, re.findall(r"settles (\d+) of 9 questions \((\d+) of them", ran.err)[0])
    assert 0 < settled < 9 and audited <= settled
    with StudioClient(studio) as client:
        client.sign_in("admin", PASSWORD)
        number = client.project("rounds")
        client.export(number, tmp_path / "events.jsonl", "events")
        progress = client.get(f"/api/projects/{number}/progress")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    kinds = Counter(event["kind"] for event in events)
    assert kinds["model_preference"] == settled and kinds["pairwise"] == 9 - settled + audited
    assert progress["labels_given"] == 9 + audited
    assert len((out / "round-1" / "preferences.jsonl").read_text().splitlines()) >= 9
