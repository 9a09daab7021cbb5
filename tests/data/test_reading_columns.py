"""Columns under the names of the file, cells that spell lists, encodings, line ends, and data sets of the hub."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from assent.data.columns import Columns, is_answer_column, is_label_column
from assent.data.files import read_file
from assent.data.load import ReadOptions, load_comparisons, load_demonstrations, load_prompts, load_ratings
from assent.errors import DataError
from assent.recipes.run.reading_settings import Reading

OWN = [
    {"question": "q", "good_answer": "g", "bad_answer": "b", "nested": {"name": "n", "list": ["x", "y"]}},
    {"question": "r", "good_answer": "h", "bad_answer": "c", "nested": {"name": "m", "list": ["z", "w"]}},
]
MESSAGES = [{"role": "user", "content": 'it\'s "q"\u2028'}, {"role": "assistant", "content": "a\nb"}]
NAMED = Columns(prompt="question", chosen="good_answer", rejected="bad_answer")


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, rows: list[dict[str, str]], **dialect: Any) -> Path:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(out.getvalue().encode())
    return path


def test_columns_are_taken_under_the_names_of_the_file(tmp_path: Path) -> None:
    path = lines(tmp_path / "own.jsonl", OWN)
    pairs = load_comparisons(path, ReadOptions(columns=NAMED)).examples
    assert [(pair.prompt.last_user_text, pair.chosen.text, pair.rejected.text) for pair in pairs] == [
        ("q", "g", "b"), ("r", "h", "c"),
    ]  # fmt: skip
    nested = ReadOptions(columns=Columns(prompt="nested.name", completion="nested.list.1", system="question"))
    (shown, _) = load_demonstrations(path, nested).examples
    assert [message.content for message in shown.conversation.messages] == ["q", "n", "y"]
    prompts = load_prompts(path, ReadOptions(columns=Columns(prompt="good_answer"))).examples
    assert [prompt.last_user_text for prompt in prompts] == ["g", "h"]


def test_a_named_column_takes_the_place_of_one_with_our_name(tmp_path: Path) -> None:
    rows = [{"prompt": "wrong", "question": "q", "completion": "a", "score": 1, "quality": 4}]
    path = lines(tmp_path / "own.jsonl", rows)
    (rating,) = load_ratings(path, ReadOptions(columns=Columns(prompt="question", score="quality"))).examples
    assert (rating.prompt.last_user_text, rating.score) == ("q", 4.0)


def test_a_prompt_keeps_its_columns_under_the_names_of_the_file(tmp_path: Path) -> None:
    path = lines(tmp_path / "own.jsonl", OWN)
    prompts = load_prompts(path, ReadOptions(columns=Columns(prompt="question", system="good_answer"))).examples
    assert [message.content for message in prompts[0].messages] == ["g", "q"]
    assert {**OWN[0], "prompt": "q", "system": "g"} == prompts[0].columns


def test_a_column_that_is_not_there_is_named_with_the_fields(tmp_path: Path) -> None:
    path = lines(tmp_path / "own.jsonl", OWN)
    wanted = (
        r'no row has the field "good_anser" \(reading.chosen\)\. '
        r'The fields are: question, good_answer, bad_answer, nested\. Did you mean "good_answer"\?'
    )
    with pytest.raises(DataError, match=wanted):
        load_comparisons(path, ReadOptions(columns=NAMED.model_copy(update={"chosen": "good_anser"})))
    lines(path, [*OWN, {"question": "s", "bad_answer": "d"}, OWN[0] | {"good_answer": 3}])
    with pytest.raises(DataError, match=r'own.jsonl:3: field "good_answer" is missing \(reading.chosen\)'):
        load_comparisons(path, ReadOptions(columns=NAMED))
    dataset = load_comparisons(path, ReadOptions(columns=NAMED, on_bad_row="skip"))
    assert (
        len(dataset) == 2
        and dataset.bad[1][1] == 'field "good_answer": expected text or a list of messages, got a number'
    )


def test_other_settings_of_reading_name_no_columns() -> None:
    assert Reading(chosen="x", keep_ties=False).named() == {"chosen": "x"}


@pytest.mark.parametrize(
    "name", ["label", "score_A", "better_response_id", "isSafe", "good_answer", "chosen-rating", "Winner"]
)
def test_a_name_that_sounds_like_judgement_is_known(name: str) -> None:
    assert is_label_column(name)


@pytest.mark.parametrize(
    "name", ["id", "chosen_model", "judge", "language", "labeler", "prompt", "background", "scope"]
)
def test_a_name_that_is_about_something_else_is_none(name: str) -> None:
    assert not is_label_column(name) and not is_answer_column(name)


SPELLINGS = {"json": json.dumps, "indented": lambda value: json.dumps(value, indent=1), "python": repr}


@pytest.mark.parametrize("spelt", SPELLINGS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl", "json"])
def test_messages_that_a_cell_spells_are_messages(kind: str, spelt: str, tmp_path: Path) -> None:
    rows = [{"messages": SPELLINGS[spelt](MESSAGES), "id": "1"}]
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        lines(path, rows)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    else:
        table(path, rows, delimiter="\t" if kind == "tsv" else ",")
    (shown,) = load_demonstrations(path).examples
    assert [message.content for message in shown.conversation.messages] == [one["content"] for one in MESSAGES]


@pytest.mark.parametrize(
    "cell", ["[1] as the source says", "{so it is}", "[sic]", '["unclosed', "[", "{'a", "[{", '[{"a": 1} and so on']
)
def test_text_that_only_begins_like_a_list_stays_text(cell: str, tmp_path: Path) -> None:
    (shown,) = load_demonstrations(table(tmp_path / "rows.csv", [{"prompt": "q", "completion": cell}])).examples
    assert shown.conversation.messages[-1].content == cell


JSON_ANSWERS = [
    '["red", "blue"]',
    "[1, 2, 3]",
    '{"a": 1}',
    "['a', 'b']",
    "[]",
    '[{"value": 1}]',
    '{"name": "f", "x": []}',
]


@pytest.mark.parametrize(
    ("asked", "answered"), [("prompt", "completion"), ("question", "answer"), ("instruction", "output")]
)
@pytest.mark.parametrize("cell", JSON_ANSWERS)
def test_an_answer_that_is_json_stays_the_text_that_it_is(cell: str, asked: str, answered: str, tmp_path: Path) -> None:
    (shown,) = load_demonstrations(table(tmp_path / "d.csv", [{asked: cell, answered: cell}])).examples
    assert [message.content for message in shown.conversation.messages] == [cell, cell]


def test_answers_that_are_json_are_compared_as_texts_and_as_lists_only_if_that_is_asked(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", [{"prompt": "q", "chosen": '["red", "blue"]', "rejected": '["x"]'}])
    dataset = load_comparisons(path)
    assert [(pair.chosen.text, pair.rejected.text) for pair in dataset.examples] == [('["red", "blue"]', '["x"]')]
    assert dataset.notes == ("1 rows have lists as answers; --format good-and-bad reads each as several answers",)
    pairs = load_comparisons(path, ReadOptions(format="good-and-bad")).examples
    assert [(pair.chosen.text, pair.rejected.text) for pair in pairs] == [("red", "x"), ("blue", "x")]
    (two,) = load_comparisons(
        table(tmp_path / "t.csv", [{"prompt": "q", "response_a": '["x"]', "response_b": "[2]", "winner": "b"}])
    ).examples
    assert (two.chosen.text, two.rejected.text) == ("[2]", '["x"]')


def test_lists_that_a_frame_held_are_lists_where_lists_are_wanted(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", [{"prompt": "q", "chosen": "['a']", "rejected": "['b', 'c']"}])
    assert [pair.rejected.text for pair in load_comparisons(path).examples] == ["b", "c"]
    path = table(tmp_path / "s.csv", [{"prompt": "q", "completions": "['a', 'b']", "scores": "[1, 2]"}])
    assert [(pair.chosen.text, pair.rejected.text) for pair in load_comparisons(path).examples] == [("b", "a")]
    path = table(tmp_path / "n.csv", [{"prompt": "q", "answer": '["a", "b"]', "tags": "[2, 1]", "out": "[3]"}])
    lists = ReadOptions(columns=Columns(completions="answer", scores="tags"))
    assert [pair.chosen.text for pair in load_comparisons(path, lists).examples] == ["a"]
    (shown,) = load_demonstrations(path, ReadOptions(columns=Columns(completion="out"))).examples
    assert shown.conversation.messages[-1].content == "[3]"


@pytest.mark.parametrize("printed", ["['a' 'b']", "['a'\n 'b']", "['a'\n \"it's\"]"])
@pytest.mark.parametrize("column", ["chosen", "completions"])
def test_a_list_of_answers_as_numpy_prints_it_is_refused(printed: str, column: str, tmp_path: Path) -> None:
    row = {"prompt": "q", "rejected": "['c']", "scores": "[1, 2]"} | {column: printed}
    with pytest.raises(DataError, match=f'field "{column}": a list as NumPy prints it, without commas'):
        load_comparisons(table(tmp_path / "rows.csv", [row]))


def test_messages_as_numpy_prints_them_are_refused_and_never_learned_as_text(tmp_path: Path) -> None:
    printed = "[{'role': 'user', 'content': 'q'}\n {'role': 'assistant', 'content': 'a'}]"
    path = table(tmp_path / "rows.csv", [{"prompt": printed, "completion": "a"}])
    with pytest.raises(DataError, match='field "prompt": the text begins like a list of messages but is neither JSON'):
        load_demonstrations(path)


def test_a_cell_may_hold_a_long_document_and_an_empty_one_is_not_given(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": "x" * 300_000, "rejected": "b", "margin": "", "system": "", "probability": ""}]
    (pair,) = load_comparisons(table(tmp_path / "rows.csv", rows)).examples
    assert len(pair.chosen.text) == 300_000 and (pair.margin, pair.probability) == (0.0, 1.0)
    assert len(pair.prompt.messages) == 1


TEXTS = ["one\u2028two\u0085three\u000bfour", "five\u001csix"]
ROWS = "{end}".join(json.dumps({"prompt": text}, ensure_ascii=False) for text in TEXTS) + "{end}"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("kind", ["jsonl", "txt", "csv", "tsv"])
def test_lines_end_at_line_ends_and_nowhere_else(kind: str, end: str, mark: str, zipped: bool, tmp_path: Path) -> None:
    told = ROWS.replace("{end}", end) if kind == "jsonl" else "".join(text + end for text in TEXTS)
    if kind in ("csv", "tsv"):
        told = f"prompt,id{end}".replace(",", "\t" if kind == "tsv" else ",") + "".join(
            f"{text}{chr(9) if kind == 'tsv' else ','}1{end}" for text in TEXTS
        )
    content = (mark + told).encode()
    path = tmp_path / (f"rows.{kind}" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert [prompt.last_user_text for prompt in load_prompts(path).examples] == TEXTS


def test_files_with_marks_that_were_joined_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(('\ufeff{"prompt": "a"}\n' * 2).encode())
    assert len(read_file(path).rows) == 2 and not any(row.problem for row in read_file(path).rows)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "the file is UTF-16, not UTF-8. Convert it: iconv -f UTF-16 -t UTF-8"),
        ("utf-16-le", "the file is UTF-16, not UTF-8. Convert it: iconv -f UTF-16LE -t UTF-8"),
        ("utf-16-be", "iconv -f UTF-16BE"),
        ("utf-32", "the file is UTF-32, not UTF-8. Convert it: iconv -f UTF-32 -t UTF-8"),
        ("utf-32-le", "iconv -f UTF-32LE"),
        ("utf-32-be", "iconv -f UTF-32BE"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json.gz", "rows.txt"])
def test_a_wide_encoding_is_refused_with_the_command_that_converts_it(
    name: str, encoding: str, said: str, tmp_path: Path
) -> None:
    content = '{"prompt": "é"}\n'.encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(DataError, match=said):
        load_prompts(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that holds owner/pairs with two splits, and no hub to be reached."""
    file = lines(tmp_path / "own.jsonl", [{"prompt": "q", "chosen": "g", "rejected": "b"}])
    held = lines(tmp_path / "held.jsonl", [{"prompt": "r", "chosen": "h", "rejected": "c"}])
    cache = tmp_path / "cache"
    datasets.load_dataset("json", data_files={"train": str(file), "test": str(held)}, cache_dir=str(cache))
    (made,) = (cache / "json").iterdir()
    shutil.copytree(made, cache / "owner___pairs" / "default")
    for made in cache.glob("owner___pairs/default/*/*/json-*.arrow"):
        made.rename(made.with_name(made.name.replace("json-", "pairs-")))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "asked"), [("owner/pairs", "q"), ("owner/pairs:train", "q"), ("owner/pairs:test", "r")]
)
def test_a_data_set_of_the_hub_is_read_from_its_cache(name: str, asked: str) -> None:
    dataset = load_comparisons(name)
    assert dataset.examples[0].prompt.last_user_text == asked and len(dataset.sha256) == 64


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["owner/others", "owner/pairs:nothing", "owner/pairs:default:nothing"])
def test_a_data_set_that_cannot_be_had_is_refused_clearly(name: str) -> None:
    with pytest.raises(DataError, match=r"no such file, and the hub gave no data set of this name .* owner/\w+:train"):
        load_comparisons(name)
