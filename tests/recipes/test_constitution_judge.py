"""`assent constitution judge` against a server: labels that train, figures that are printed, refusals that hold."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from chat_server import Answer, ChatServer, Messages, chat_server
from running import Ran, assent, write_rows

from assent.data.load import load_comparisons


def likes_thanks(messages: Messages) -> Answer:
    """P(A) = 0.9 if A thanks, 0.1 if B does."""
    a_thanks = "thanks" in messages[-1]["content"].split("\n(B) ")[0].lower()
    p = 0.9 if a_thanks else 0.1
    return ("A" if a_thanks else "B"), {"A": math.log(p), "B": math.log(1 - p)}


def judge(server: ChatServer, data: Path, out: Path, *more: str) -> Ran:
    return assent("constitution", "judge", "--model", server.url, "--data", data, "--out", out, *more)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """In the last two pairs of twelve, people liked the answer without thanks better."""
    texts = [("Thanks, I am well.", "Go away.") if place < 10 else ("Go away.", "Thanks.") for place in range(12)]
    return write_rows(
        tmp_path / "pairs.jsonl",
        [{"prompt": f"How are you, {n}?", "chosen": a, "rejected": b} for n, (a, b) in enumerate(texts)],
    )


def test_labels_are_soft_turned_to_the_better_answer_and_say_where_they_come_from(data: Path, tmp_path: Path) -> None:
    with chat_server(likes_thanks) as server:
        ran = judge(server, data, tmp_path / "out")
    assert ran.code == 0, ran.err
    labels = load_comparisons(tmp_path / "out" / "labels.jsonl").examples
    assert [one.probability for one in labels] == pytest.approx([0.9] * 12)
    assert all(one.chosen.text.startswith("Thanks") for one in labels)
    row = json.loads((tmp_path / "out" / "labels.jsonl").read_text().splitlines()[0])
    assert row["source"] == "model" and row["who"].startswith("fake") and row["detail"].startswith("constitution: ")
    for told in (
        "12 pairs, 12 labelled",
        "position bias (same place preferred in both orders): 0.00",
        "accuracy against the file's labels: 0.83 [",
        "Cohen's kappa",
        "24 calls",
    ):
        assert told in ran.err  # fmt: skip
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert quality["accuracy"]["value"] == pytest.approx(10 / 12)


def test_a_judge_that_likes_a_place_is_refused_and_the_bound_can_be_raised_without_a_call(
    data: Path, tmp_path: Path
) -> None:
    with chat_server(lambda _: ("A", {"A": math.log(0.8), "B": math.log(0.2)})) as server:
        refused = judge(server, data, tmp_path / "out")
        assert refused.code == 2 and "in 100% of its verdicts (max_position_bias: 40%)" in refused.err
        assert not (tmp_path / "out" / "labels.jsonl").exists()
        asked = len(server.asked)
        raised = judge(server, data, tmp_path / "out", "--resume", "--set", "max_position_bias=1")
        assert raised.code == 0 and len(server.asked) == asked
    assert {one.probability for one in load_comparisons(tmp_path / "out" / "labels.jsonl").examples} == {0.5}


@pytest.mark.parametrize("logprobs", ["left out", "refused"])
def test_without_log_probabilities_votes_are_sampled_and_that_is_said(
    logprobs: str, data: Path, tmp_path: Path
) -> None:
    with chat_server(likes_thanks, logprobs=logprobs) as server:
        ran = judge(server, data, tmp_path / "out", "--set", "votes=3")
    assert ran.code == 0, ran.err
    assert "no log-probabilities: 12 verdicts are shares of sampled votes" in ran.err
    assert {one.probability for one in load_comparisons(tmp_path / "out" / "labels.jsonl").examples} == {1.0}


def test_a_judge_that_answers_neither_is_refused(data: Path, tmp_path: Path) -> None:
    with chat_server(lambda _: ("Both.", {"Both": -0.1, "Neither": -3.0})) as server:
        ran = judge(server, data, tmp_path / "out")
    assert ran.code == 2 and "neither A nor B" in ran.err and "12 without an answer" in ran.err


def test_completions_without_labels_are_judged_pair_by_pair(tmp_path: Path) -> None:
    data = write_rows(
        tmp_path / "samples.jsonl", [{"prompt": "How are you?", "completions": ["Thanks.", "Go away.", "Fine."]}]
    )
    with chat_server(likes_thanks) as server:
        ran = judge(server, data, tmp_path / "out", "--set", "max_position_bias=1")
    assert ran.code == 0, ran.err
    assert "3 pairs, 3 labelled" in ran.err and "accuracy against the file's labels: none" in ran.err
    assert len(load_comparisons(tmp_path / "out" / "labels.jsonl")) == 3


def test_a_published_constitution_without_comparisons_is_refused_before_any_call(data: Path, tmp_path: Path) -> None:
    published = tmp_path / "published.json"
    published.write_text(json.dumps({"constitutions": [{"critic": "C?", "revision": "R."}]}))
    with chat_server(likes_thanks) as server:
        ran = judge(server, data, tmp_path / "out", "--constitution", str(published))
        assert ran.code == 2 and "has no comparison question" in ran.err and not server.asked
