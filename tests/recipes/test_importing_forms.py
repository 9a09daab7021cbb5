"""What an import keeps in another form it counts; what would change its meaning it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from running import Ran, assent, worked, write_rows

from assent.data.load import load_demonstrations
from assent.feedback.store.store import FeedbackStore

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def imported(folder: Path, *rows: dict[str, Any]) -> Ran:
    data = write_rows(folder / "rows.jsonl", rows)
    return assent("feedback", "import", "--store", folder / "judged.db", "--project", "p", "--data", data)


def payload(folder: Path) -> dict[str, Any]:
    with FeedbackStore.open(str(folder / "judged.db"), read_only=True) as store:
        (event,) = store.events()
    return dict(event.payload)


@pytest.mark.parametrize(("probability", "strength", "rounded"), [
    (1.0, -3, False), (0.9, -2, True), (0.8333, -2, False), (0.7, -1, True), (2 / 3, -1, False), (0.59, -1, True),
    (0.5, 0, False), (0.3, -1, True),
])  # fmt: skip
def test_a_probability_becomes_the_nearest_strength_and_that_is_said(
    probability: float, strength: int, rounded: bool, tmp_path: Path
) -> None:
    ran = imported(tmp_path, PAIR | {"probability": probability})
    assert ran.code == 0 and payload(tmp_path)["strength"] == strength
    assert ("1 probabilities rounded to 1/2, 2/3, 5/6 or 1" in ran.err) == rounded


def test_the_same_pair_the_other_way_round_is_the_same_item(tmp_path: Path) -> None:
    ran = imported(tmp_path, PAIR, {"prompt": "q", "chosen": "b", "rejected": "a", "probability": 2 / 3})
    assert "1 items added" in ran.err and "2 answers of 2 people kept" in ran.err
    with FeedbackStore.open(str(tmp_path / "judged.db"), read_only=True) as store:
        assert sorted(event.payload["strength"] for event in store.events()) == [-3, 1]


@pytest.mark.parametrize("probability", [0.55, 0.58, 0.45, 0.501])
def test_a_preference_never_becomes_a_tie(probability: float, tmp_path: Path) -> None:
    ran = imported(tmp_path, PAIR | {"probability": probability})
    assert ran.code == 2 and "would become a tie" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_margins_and_tools_that_a_store_has_no_place_for_are_counted(tmp_path: Path) -> None:
    ran = imported(tmp_path, PAIR | {"margin": 2.0, "tools": [TOOL]}, PAIR | {"prompt": "q2", "margin": 1.0})
    assert "2 margins left out" in ran.err and "1 prompts without their tools" in ran.err
    assert "not kept as in the file" not in imported(tmp_path, PAIR | {"prompt": "q3", "margin": 0.0}).err


def test_tools_and_calls_are_counted_in_demonstrations_and_in_items(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [TOOL]}
    messages = [{"role": "user", "content": "q"}, call, {"role": "tool", "content": "rain", "name": "weather"}]
    ran = imported(tmp_path, {"messages": [*messages, {"role": "assistant", "content": "It rains."}], "tools": [TOOL]})
    assert ran.code == 0 and "1 prompts without their tools" in ran.err
    assert "1 prompts with tool calls as text, without names and ids" in ran.err
    (tmp_path / "items").mkdir()
    ran = imported(tmp_path / "items", {"prompt": messages, "completions": ["a", "b"], "tools": [TOOL]})
    assert ran.code == 0 and "prompts without their tools" in ran.err and "prompts with tool calls as text" in ran.err


def talk(first: int, last: int) -> dict[str, Any]:
    said = [("user", "q"), ("assistant", "WRONG"), ("user", "q2"), ("assistant", "ok")]
    weights = {1: first, 3: last}
    return {
        "messages": [
            {"role": role, "content": content} | ({"weight": weights[place]} if place in weights else {})
            for place, (role, content) in enumerate(said)
        ]
    }


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet"])
def test_messages_of_weight_0_come_back_with_it(form: str, tmp_path: Path) -> None:
    assert imported(tmp_path, talk(first=0, last=1)).code == 0
    out = tmp_path / f"out.{form}"
    export = ("feedback", "export", "--store", tmp_path / "judged.db", "--project", "p")
    worked(*export, "--format", "demonstrations", "--out", out)
    (shown,) = load_demonstrations(out).examples
    assert [message.content for message in shown.conversation.messages if not message.learned] == ["WRONG"]
    assert shown.conversation.messages[-1].learned


def test_messages_without_a_weight_stay_without_one(tmp_path: Path) -> None:
    assert imported(tmp_path, talk(first=1, last=1)).code == 0
    export = ("feedback", "export", "--store", tmp_path / "judged.db", "--project", "p", "--format", "demonstrations")
    worked(*export, "--out", tmp_path / "out.jsonl")
    (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(set(message) == {"role", "content"} for message in row["messages"])
    worked(*export, "--out", tmp_path / "out.parquet")
    (messages,) = pyarrow.parquet.read_table(tmp_path / "out.parquet")["messages"].to_pylist()
    assert [message["weight"] for message in messages] == [None] * 4


def test_a_last_message_of_weight_0_is_no_demonstration(tmp_path: Path) -> None:
    ran = imported(tmp_path, talk(first=1, last=0))
    assert ran.code == 2 and 'weight 0, which is not to be learned: "ok"' in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
