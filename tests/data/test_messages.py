"""What messages carry beside role and content is read, refused or named, in every format that has messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from assent.data.load import load_comparisons, load_demonstrations, load_prompts, load_ratings
from assent.errors import DataError
from assent.types import Message, Role

ASKED = {"role": "user", "content": "Weather in Oslo?"}
TOOL = {"type": "function", "function": {"name": "weather"}}


def call(name: str, arguments: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def answer(folder: Path, **message: Any) -> Message:
    row = {"messages": [ASKED, {"role": "assistant", **message}]}
    return load_demonstrations(written(folder, row)).examples[0].conversation.messages[-1]


def test_calls_stand_behind_the_text_as_json_and_once_more_by_themselves(tmp_path: Path) -> None:
    said = answer(tmp_path, content="Let me look.", tool_calls=[call("weather", {"city": "Oslo", "at": None})])
    assert json.loads(said.tool_calls) == [call("weather", {"city": "Oslo", "at": None})]
    assert said.content == f"Let me look.\n{said.tool_calls}" and said.spoken == "Let me look."


def test_arguments_that_are_spelled_as_text_are_read(tmp_path: Path) -> None:
    said = answer(tmp_path, content=None, tool_calls=[call("weather", '{"city": "Oslo"}')])
    assert json.loads(said.content) == [call("weather", {"city": "Oslo"})] and said.spoken == ""
    old = answer(tmp_path, content=None, function_call={"name": "weather", "arguments": "{}"})
    assert json.loads(old.tool_calls) == [call("weather", {})]


def test_calls_and_tools_of_sharegpt_are_read(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Weather in Oslo?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
        {"from": "observation", "value": "3 C"},
        {"from": "gpt", "value": "It is 3 C."},
    ]
    data = load_demonstrations(written(tmp_path, {"conversations": turns, "tools": json.dumps([TOOL])}))
    conversation = data.examples[0].conversation
    assert json.loads(conversation.messages[1].tool_calls) == [call("weather", {"city": "Oslo"})]
    assert json.loads(conversation.tools) == [TOOL] and "1 conversations come with tools" in data.notes


def test_arrow_fills_no_arguments(tmp_path: Path) -> None:
    rows = [
        {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [call(name, arguments)]}]}
        for name, arguments in (("weather", {"city": "Oslo"}), ("area", {"width": 5}))
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    told = [one.conversation.messages[1].tool_calls for one in load_demonstrations(tmp_path / "rows.parquet").examples]
    assert list(map(json.loads, told)) == [[call("weather", {"city": "Oslo"})], [call("area", {"width": 5})]]


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_a_thought_stands_before_its_answer(tmp_path: Path, name: str) -> None:
    assert answer(tmp_path, content="Cold.", **{name: " 3 C\n"}).content == "<think>\n3 C\n</think>\n\nCold."
    whole = "<think>\n3 C\n</think>\n\nCold."
    assert answer(tmp_path, content=whole, **{name: "3 C"}).content == whole


def test_an_answer_that_speaks_of_a_tag_keeps_its_thought(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    answers = ["Write </think> to end it.", "</think> odd", "<think>\nown\n</think>\n\nYes."]
    told = [{"role": "assistant", "content": text, "reasoning_content": "so"} for text in answers]
    path.write_text("".join(json.dumps({"messages": [{"role": "user", "content": "q"}, one]}) + "\n" for one in told))
    read = [shown.conversation.messages[-1].content for shown in load_demonstrations(path).examples]
    assert read == [*(f"<think>\nso\n</think>\n\n{answer}" for answer in answers[:2]), answers[2]]


def test_the_thought_of_a_judged_answer_is_kept(tmp_path: Path) -> None:
    chosen = {"role": "assistant", "content": "Cold.", "reasoning_content": "3 C"}
    pair = {"prompt": [ASKED], "chosen": [chosen], "rejected": [{"role": "assistant", "content": "Warm."}]}
    (one,) = load_comparisons(written(tmp_path, {**pair, "tools": [TOOL]})).examples
    assert one.chosen.text == "<think>\n3 C\n</think>\n\nCold." and json.loads(one.prompt.tools) == [TOOL]


def test_prompts_keep_their_tools(tmp_path: Path) -> None:
    for row in ({"prompt": [ASKED]}, {"prompt": "Weather?"}, {"messages": [ASKED]}, {"messages": [ASKED, ASKED]}):
        (prompt,) = load_prompts(written(tmp_path, {**row, "tools": [TOOL]})).examples
        assert json.loads(prompt.tools) == [TOOL]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"weight": 0.0}, {"loss": False}, {"training": 0}])
def test_a_message_of_no_weight_is_context(tmp_path: Path, mark: dict[str, object]) -> None:
    bad, good = ({"role": "assistant", "content": text} for text in ("WRONG", "Cold."))
    row = {"messages": [ASKED, {**bad, **mark}, ASKED, {**good, **dict.fromkeys(mark, 1)}]}
    data = load_demonstrations(written(tmp_path, row))
    said = [one for one in data.examples[0].conversation.messages if one.role is Role.ASSISTANT]
    assert [one.learned for one in said] == [False, True]
    assert "1 assistant messages are context and not learned" in data.notes


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": "Cold.", "weight": 0.5}, "expected 0 or 1"),
        ({"content": "Cold.", "weight": 0}, "no assistant message is learned"),
        ({"content": "Cold.", "tool_calls": {"name": "weather"}}, "a list of calls"),
        ({"content": "Cold.", "tool_calls": [{"function": {"arguments": {}}}]}, "a call has no name"),
        ({"content": "Cold.", "reasoning_content": ["3 C"]}, "expected text"),
        ({"content": [{"type": "image_url", "image_url": "x"}]}, "only text parts"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path: Path, message: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        answer(tmp_path, **message)


def test_fields_that_nobody_reads_are_named(tmp_path: Path) -> None:
    asked = {**ASKED, "id": "7", "audio": None}
    row = {"messages": [asked, {"role": "assistant", "content": "Cold.", "id": "8", "citations": ["x"]}]}
    data = load_demonstrations(written(tmp_path, row))
    assert "fields of messages that are not read: id (2), citations (1)" in data.notes
    alpaca = written(tmp_path, {"response1": "a", "text": "a", "label": "good", "tools": [TOOL]})
    assert "the tools of 1 rows are not read in this format" in load_ratings(alpaca).notes


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "  a b \n"},
        {"instruction": "q", "output": "  a b \n"},
        {"messages": [ASKED, {"role": "assistant", "content": "  a b \n"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "  a b \n"}]},
        {"prompt": "q", "chosen": "  a b \n", "rejected": "c"},
        {"prompt": "q", "chosen": [{"role": "assistant", "content": "  a b \n"}], "rejected": " c"},
        {"chosen": "\n\nHuman: q\n\nAssistant:  a b \n", "rejected": "\n\nHuman: q\n\nAssistant: c"},
        {"prompt": "q", "completions": ["  a b \n", " c"], "ranks": [1, 2]},
        {"prompt": "q", "completions": ["  a b \n", " c"], "scores": [1, 0]},
        {"prompt": "q", "completion": "  a b \n", "label": True},
        {"prompt": "q", "response": "  a b \n", "score": 1.0},
        {"instruction": "q", "output_1": "  a b \n", "output_2": " c", "preference": 1},
        {"question": "q", "pos_answer": {"answer": "  a b \n"}, "neg_answer": {"answer": " c"}},
    ],
)
def test_an_answer_loses_the_blanks_around_it_in_every_format(tmp_path: Path, row: dict[str, Any]) -> None:
    (one,) = load_demonstrations(written(tmp_path, row)).examples
    assert one.conversation.messages[-1].content == "a b"
