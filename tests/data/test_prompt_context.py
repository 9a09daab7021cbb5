"""What stands beside a prompt and an answer: system prompts, earlier turns, inputs, labels, weights and tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assent.data.load import load_comparisons, load_demonstrations, load_prompts, load_ratings
from assent.errors import DataError
from assent.types import Conversation, Role


def rows(path: Path, *told: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in told))
    return path


def read(path: Path, row: dict[str, Any]) -> Conversation:
    (shown,) = load_demonstrations(rows(path / "d.jsonl", row)).examples
    return shown.conversation


def said(talk: Conversation) -> list[str]:
    return [message.content for message in talk.messages]


PAIRS = [
    ("query", "response"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("instruction", "output"),
    ("question", "answer"),
]


@pytest.mark.parametrize(("asked", "answered"), PAIRS)
@pytest.mark.parametrize(
    "history",
    [
        [["q", "a"]],
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "\n\nHuman: q\n\nAssistant: a",
    ],
)
def test_earlier_turns_stand_before_any_prompt(asked: str, answered: str, history: object, tmp_path: Path) -> None:
    talk = read(tmp_path, {asked: "more", answered: "b", "history": history, "system": "s"})
    assert said(talk) == ["s", "q", "a", "more", "b"]
    assert [m.role for m in talk.messages[1:]] == [Role.USER, Role.ASSISTANT] * 2
    pair = rows(tmp_path / "p.jsonl", {asked: "more", "chosen": "b", "rejected": "c", "history": history})
    assert said(load_comparisons(pair).examples[0].prompt) == ["q", "a", "more"]


@pytest.mark.parametrize(("asked", "answered"), PAIRS)
def test_inputs_and_contexts_stand_beside_any_prompt(asked: str, answered: str, tmp_path: Path) -> None:
    assert said(read(tmp_path, {asked: "do", answered: "b", "input": "this"})) == ["do\n\nthis", "b"]
    joined = "do\n\nthis" if asked == "instruction" else "this\n\ndo"
    assert said(read(tmp_path, {asked: "do", answered: "b", "context": "this"})) == [joined, "b"]
    assert said(read(tmp_path, {asked: "do this", answered: "b", "context": "this"})) == ["do this", "b"]
    (prompt,) = load_prompts(rows(tmp_path / "p.jsonl", {asked: "do", "context": "this"})).examples
    assert said(prompt) == [joined]


def test_a_context_that_is_no_text_is_named_and_not_read(tmp_path: Path) -> None:
    dataset = load_demonstrations(
        rows(
            tmp_path / "d.jsonl",
            {"prompt": "q", "completion": "a", "context": {"id": 1}, "cot": "so", "functions": "f"},
        )
    )
    assert said(dataset.examples[0].conversation) == ["q", "a"]
    assert "not read, though it may belong to the prompt or the answer: context, cot" in dataset.notes


@pytest.mark.parametrize(
    "name", ["system", "system_prompt", "system_message", "system_instruction", "system_instructions"]
)
def test_a_system_prompt_is_read_under_its_usual_names(name: str, tmp_path: Path) -> None:
    assert said(read(tmp_path, {"prompt": "q", "completion": "a", name: "s"})) == ["s", "q", "a"]
    talk = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], name: "s"}
    assert said(read(tmp_path, talk)) == ["s", "q", "a"]
    notes = load_demonstrations(
        rows(tmp_path / "n.jsonl", {"prompt": "q", "completion": "a", "system_text": "s"})
    ).notes
    assert notes == ("not read, though it may belong to the prompt or the answer: system_text",)


@pytest.mark.parametrize("name", ["kto_tag", "is_safe", "label", "thumbs_up"])
@pytest.mark.parametrize(("good", "bad"), [(True, False), (1, 0), (1.0, 0.0), ("1", "0"), ("1.0", "0.0")])
@pytest.mark.parametrize("form", ["answers", "messages"])
def test_flags_are_labels(name: str, good: object, bad: object, form: str, tmp_path: Path) -> None:
    told: dict[str, Any] = {"instruction": "q", "input": "", "output": "a"}
    if form == "messages":
        told = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    read = load_ratings(rows(tmp_path / "r.jsonl", {**told, name: good}, {**told, name: bad})).examples
    assert [rating.score for rating in read] == [1.0, 0.0]


def test_a_row_of_no_weight_is_not_learned(tmp_path: Path) -> None:
    told = [{"prompt": "q", "completion": answer, "weight": weight} for answer, weight in [("bad", 0), ("good", 1)]]
    dataset = load_demonstrations(rows(tmp_path / "d.jsonl", *told))
    assert [said(shown.conversation) for shown in dataset.examples] == [["q", "good"]]
    assert dataset.notes == ("1 rows of weight 0 are left out",)
    pair = {"prompt": "q", "chosen": "a", "rejected": "b", "weight": 0.0}
    assert len(load_comparisons(rows(tmp_path / "p.jsonl", pair, {**pair, "weight": 1, "chosen": "c"}))) == 1
    with pytest.raises(DataError, match="all rows have the weight 0"):
        load_comparisons(rows(tmp_path / "p.jsonl", pair))
    shares = load_demonstrations(rows(tmp_path / "s.jsonl", {"prompt": "q", "completion": "a", "weight": 0.5}))
    assert shares.notes == ("not read, though it may belong to the prompt or the answer: weight",)


@pytest.mark.parametrize("form", ["functions", "texts", "text"])
def test_tools_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    function = {"name": "f", "parameters": {}}
    tool = {"type": "function", "function": function}
    column: dict[str, Any] = {
        "functions": {"functions": [function]},
        "texts": {"tools": [json.dumps(tool)]},
        "text": {"tools": json.dumps([tool])},
    }[form]
    assert json.loads(read(tmp_path, {"prompt": "q", "completion": "a", **column}).tools) == [tool]
