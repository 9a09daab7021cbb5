"""What `assent feedback import` cannot keep it refuses or names: judgement is never lost without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import Ran, assent, write_rows

from assent.feedback.records import EventKind
from assent.feedback.store.store import FeedbackStore

ITEM = {"prompt": "q", "completions": ["a", "b"]}
TRL = {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}
PKU = {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1, "safer_response_id": 0}


def imported(folder: Path, *rows: dict[str, Any], settings: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> Ran:
    data = write_rows(folder / "rows.jsonl", rows)
    flags = [part for setting in settings for part in ("--set", setting)]
    return assent(
        "feedback", "import", "--store", folder / "judged.db", "--project", "p", "--data", data, *flags, *more
    )


def payloads(folder: Path) -> list[tuple[EventKind, dict[str, Any]]]:
    with FeedbackStore.open(str(folder / "judged.db"), read_only=True) as store:
        return [(event.kind, dict(event.payload)) for event in store.events()]


LOST = [
    ({"prompt": "q", "winner": "a"}, "winner"),
    ({"prompt": "q", "completions": ["a", "b"], "best": 1}, "best"),
    ({"prompt": "q", "completion_1": "a", "completion_2": "b", "my_label": "x"}, "my_label"),
    ({"question": "q", "good_answer": "a", "bad_answer": "b"}, "good_answer, bad_answer"),
    ({"question": "q", "answer": ["a", "b"]}, "answer"),
    ({"context": "q", "response": "a", "feedback": ["good"]}, "feedback"),
    ({"instruction": "q", "output": "a", "orig_score": 3}, "orig_score"),
    (
        {"prompt": "q", "completions": [{"text": "a", "chosen": True}, {"text": "b", "chosen": False}]},
        "completions[].chosen",
    ),
    (
        {"prompt": "q", "completions": [{"text": "a", "annotations": {"help": {"Rating": "5"}}}, {"text": "b"}]},
        "completions[].annotations",
    ),
    ({"prompt": "q", "completions": ["a", "b"], "metadata": {"scores": [1, 2]}}, "metadata.scores"),
    ({"prompt": "q", "completions": ["a", "b"], "meta": {"by": [{"verdict": "a"}]}}, "meta.by[].verdict"),
    (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "rating": "down"}]},
        "messages[].rating",
    ),
]


@pytest.mark.parametrize(("row", "named"), LOST)
def test_judgement_that_would_be_lost_is_named_and_nothing_is_imported(
    row: dict[str, Any], named: str, tmp_path: Path
) -> None:
    ran = imported(tmp_path, row)
    assert ran.code == 2 and f"would be lost: {named}" in ran.err and "reading.label=COLUMN" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert imported(tmp_path, row, settings=("answers=drop",)).code == 0 and payloads(tmp_path) == []


@pytest.mark.parametrize(
    ("rows", "settings", "kept"),
    [
        ([TRL], (), [(EventKind.DEMONSTRATION, {"text": "a"})]),
        ([TRL | {"label": True}], (), [(EventKind.GOOD_BAD, {"good": [True], "reasons": [""]})]),
        ([PKU], (), [(EventKind.PAIRWISE, {"strength": -3})]),
        ([{"question": "q", "good": "a", "bad": "b"}],
         ("reading.prompt=question", "reading.chosen=good", "reading.rejected=bad"),
         [(EventKind.PAIRWISE, {"strength": -3})]),
        ([{"q": "q", "answers": [{"text": "a", "rank": 2}, {"text": "b", "rank": 1}]}], ("prompt=q",),
         [(EventKind.RANKING, {"ranks": [2, 1]})]),
        ([{"prompt": "q", "completion": "a", "score": 1}, {"prompt": "q", "completion": "b", "score": 5}], (),
         [(EventKind.RATING, {"ratings": {"helpful": [1, 5]}})]),
        *(([{"prompt": "q", "completions": [{"text": "a", name: 1}, {"text": "b", name: 4}]}], (),
           [(EventKind.RANKING, {"ranks": [2, 1]})]) for name in ("helpfulness", "votes", "quality", "stars")),
    ],
)  # fmt: skip
def test_what_people_said_is_kept(
    rows: list[dict[str, Any]], settings: tuple[str, ...], kept: list[Any], tmp_path: Path
) -> None:
    ran = imported(tmp_path, *rows, settings=settings)
    assert ran.code == 0, ran.err
    assert payloads(tmp_path) == kept and "1 items, 1 answers" in ran.err


def test_judgement_beside_the_one_that_is_read_is_named(tmp_path: Path) -> None:
    completions = [{"text": text, "helpfulness": score, "honesty": 3} for text, score in (("a", 1), ("b", 4))]
    ran = imported(tmp_path, {"prompt": "q", "completions": completions})
    assert ran.code == 0 and "looks like a label: completions[].honesty" in ran.err


def test_what_a_tool_and_a_sampler_are_called_is_no_judgement(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "rate", "parameters": {"properties": {"rating": {}}}}}
    row = {"prompt": "q", "completions": [{"text": "a", "sampling": {"best_of": 2}}, {"text": "b"}], "tools": [tool]}
    assert imported(tmp_path, row).code == 0


def test_completions_in_several_columns_are_items(tmp_path: Path) -> None:
    row = {"prompt": "q", "short": "a", "long": "b"}
    assert imported(tmp_path, row, settings=('completions=["short", "long"]',)).code == 0
    with FeedbackStore.open(str(tmp_path / "judged.db"), read_only=True) as store:
        (item,) = store.items(1)
    assert [candidate.text for candidate in item.new.candidates] == ["a", "b"]
    ran = imported(tmp_path, row, settings=('completions=["short", "longer"]',))
    assert ran.code == 2 and '"longer" is missing' in ran.err


def test_judgements_of_steps_are_refused(tmp_path: Path) -> None:
    row = {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]}
    ran = imported(tmp_path, row)
    assert ran.code == 2 and "step labels" in ran.err
    assert imported(tmp_path, row, settings=("answers=drop",)).code == 0


RECORD = {"fields": {"prompt": "q", "response-1": "a", "response-2": "b"}}
TASK = {"data": {"prompt": "q", "answer1": "a", "answer2": "b"}}


def argilla(**responses: Any) -> dict[str, Any]:
    return RECORD | {
        "responses": {name.replace("_", "-"): [{"value": value, "user_id": "u"}] for name, value in responses.items()}
    }


def label_studio(*results: dict[str, Any]) -> dict[str, Any]:
    return TASK | {"annotations": [{"result": list(results)}]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (argilla(quality_1=5), "1 ratings of only some of the completions"),
        (argilla(comment="fine"), '1 to the question "comment"'),
        (label_studio({"type": "rating", "value": {"rating": 3}}), "1 of type rating"),
    ],
)
def test_annotations_of_which_none_can_be_read_are_an_error(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    ran = imported(tmp_path, row)
    assert ran.code == 2 and f"none of the annotations can be read: {reason}" in ran.err
    assert not (tmp_path / "judged.db").exists()
    assert imported(tmp_path, row, settings=("answers=drop",)).code == 0


@pytest.mark.parametrize(
    ("row", "note", "kept"),
    [
        (argilla(better="response-1", comment="fine"), '1 annotations were left out: 1 to the question "comment"',
         [(EventKind.RANKING, {"ranks": [1, 2]})]),
        (argilla(help_1=5, help_2=3, style_1=2), "1 ratings of only some of the completions",
         [(EventKind.RATING, {"ratings": {"help": [5, 3]}})]),
        (argilla(help_1=5, help_2=3, style_1=2, style_2=1), "1 items, 1 answers",
         [(EventKind.RATING, {"ratings": {"help": [5, 3], "style": [2, 1]}})]),
    ],
)  # fmt: skip
def test_annotations_that_are_left_out_are_counted_by_reason(
    row: dict[str, Any], note: str, kept: list[Any], tmp_path: Path
) -> None:
    ran = imported(tmp_path, row, settings=('criteria=["help", "style"]',))
    assert ran.code == 0 and note in ran.err, ran.err
    assert payloads(tmp_path) == kept


def test_nothing_is_read_or_written_where_the_store_refuses(tmp_path: Path) -> None:
    assert imported(tmp_path, ITEM).code == 0
    bad, skip = {"prompt": 3}, ("--on-bad-row", "skip")
    ran = imported(tmp_path, ITEM, bad, settings=("mode=ranking",), more=skip)
    assert ran.code == 2 and "a mode stays" in ran.err and "items," not in ran.err
    with FeedbackStore.open(str(tmp_path / "judged.db")):
        ran = imported(tmp_path, ITEM, bad, more=skip)
    assert ran.code == 2 and "another process" in ran.err and "items," not in ran.err
    assert not list(tmp_path.glob("*bad-rows*"))
    ran = imported(tmp_path, ITEM, bad, more=skip)
    assert ran.code == 0 and "rows.jsonl:2" in ran.err
    (aside,) = tmp_path.glob("*bad-rows*")
    assert json.loads(aside.read_text())["row"] == bad


def test_other_tools_have_no_columns_to_name(tmp_path: Path) -> None:
    ran = imported(tmp_path, argilla(better="response-1"), settings=("reading.chosen=response-1",))
    assert ran.code == 2 and "a file of argilla has no columns to name (reading.chosen)" in ran.err
