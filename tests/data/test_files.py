from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import datasets
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assent.data.files import read_file
from assent.data.formats import FORMATS
from assent.data.load import (
    ReadOptions,
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_ratings,
    load_texts,
)
from assent.errors import AssentError, DataError

ROWS = [
    {"prompt": "a, b?", "chosen": 'yes\n"é"', "rejected": "no"},
    {"prompt": "c?", "chosen": "日", "rejected": "n/a"},
]


def as_table(delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def as_parquet() -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
COLUMNS = json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode()


ORIENTS: tuple[Literal["columns", "index", "records", "split"], ...] = ("columns", "index", "records", "split")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINES),
        ("rows.jsonl", b"\xef\xbb\xbf" + LINES),
        ("rows.jsonl", LINES.replace(b"\n", b"\r\n")),
        ("rows.jsonl", json.dumps(ROWS).encode()),
        ("rows.json", json.dumps(ROWS, indent=1).encode()),
        ("rows.json", LINES),
        ("rows.json", COLUMNS),
        ("rows.json", json.dumps({"data": ROWS}).encode()),
        ("rows.json", json.dumps({"version": "1", "data": ROWS}).encode()),
        *(("rows.json", pandas.DataFrame(ROWS).to_json(orient=orient).encode()) for orient in ORIENTS),
        ("rows", LINES),
        ("rows.csv", as_table(",")),
        ("rows.tsv", as_table("\t")),
        ("rows.parquet", as_parquet()),
    ],
)
def test_the_same_rows_come_out_of_every_kind_of_file(tmp_path: Path, name: str, content: bytes, zipped: bool) -> None:
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert [dict(row.fields) for row in read_file(path).rows] == ROWS


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lzma.compress(LINES), "the file is packed with xz. Unpack it first: xz -d -k"),
        (bz2.compress(LINES), "the file is packed with bzip2. Unpack it first: bzip2 -d -k"),
        (b"\x28\xb5\x2f\xfd" + LINES, "the file is packed with Zstandard. Unpack it first: zstd -d"),
        (b"PK\x03\x04" + LINES, "the file is a zip archive or a spreadsheet. Save it as CSV, or unpack it first"),
    ],
)
def test_a_packed_file_is_refused_with_the_command_that_unpacks_it(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_file(path)


def test_splits_in_one_file_are_named_and_none_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    for told in ({"train": ROWS, "test": ROWS}, {"data": ROWS, "held_out": ROWS}):
        path.write_text(json.dumps(told))
        with pytest.raises(DataError, match=f"several lists of rows: {', '.join(told)}"):
            read_file(path)


def test_a_saved_datasets_folder_is_read_and_its_splits_are_named(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "one"))
    assert [dict(row.fields) for row in read_file(tmp_path / "one").rows] == ROWS
    datasets.DatasetDict(train=saved, test=saved).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(DataError, match=r"several splits \(test, train\)"):
        read_file(tmp_path / "two")
    assert len(read_file(tmp_path / "two" / "train").rows) == 2


def test_topics_with_questions_and_lists_of_texts_are_prompts(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"Science": {"Physics": ["What is mass?", "Why?"]}, "Art": {"Film": ["Who?"]}}))
    assert [row.fields["topic"] for row in read_file(path).rows] == ["Science / Physics"] * 2 + ["Art / Film"]
    path.write_text(json.dumps(["What is mass?", "Why?"]))
    assert len(load_prompts(path)) == 2
    path.write_text(json.dumps({"instructions": ["What is mass?", "Why?"], "inputs": []}))
    assert len(load_prompts(path)) == 2


def test_rows_know_the_line_they_begin_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(as_table(","))
    assert [row.number for row in read_file(path).rows] == [2, 4]  # the first row spans two lines


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b" \n\n", "the file is empty"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.jsonl.gz", gzip.compress(LINES * 50)[:-20], "the gzip file is cut short"),
        ("a.jsonl.gz", b"\x1f\x8b" + b"nonsense" * 9, "the gzip file is damaged"),
        ("a.jsonl", '{"a": 1}\n{"text": "\xe9"}'.encode("latin-1"), "a.jsonl:2: byte 0xe9 is not UTF-8 text"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "the file is UTF-16"),
        ("a.json", b'{"text": "a"', "broken JSON: Expecting ',' delimiter at column 13"),
        ("a.json", b'[\n{"text": "a"},\n{"text"}]', "broken JSON: Expecting ':' delimiter at line 3, column 8"),
        ("a.json", b"[]", "the file holds no rows"),
        ("a.json", b"3", "expected a list of rows"),
        ("a.csv", b"prompt,prompt\na,b", 'the header names the column "prompt" twice'),
        ("a.csv", b'prompt,chosen\n"a', "broken CSV"),
        ("a.csv", b"prompt,chosen\n", "the file holds no rows"),
        ("a.parquet", b"PAR1nothing", "the Parquet file is damaged"),
        ("a.parquet", b"text", "this is not a Parquet file"),
        ("a.docx", b"\x01\x02 word", "the file has an unknown format"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_file(path)
    assert said in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("spelt", [json.dumps, repr])
def test_lists_of_one_text_on_both_sides_of_a_table_are_the_texts(
    spelt: Callable[[object], str], tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    sides = [["it's\u2028 one"], ["two\n[3]"]]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["prompt", "chosen", "rejected"], ["a?", *map(spelt, sides)]])
    (pair,) = load_comparisons(path).examples
    assert (pair.chosen.text, pair.rejected.text) == (sides[0][0], sides[1][0])


def test_a_csv_row_with_too_many_cells_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,chosen,rejected\na,b,c\na,b,c,d\n")
    with pytest.raises(DataError, match=r"a\.csv:3: expected 3 columns as in the header, got 4"):
        load_comparisons(path)
    assert load_comparisons(path, ReadOptions(on_bad_row="skip")).bad_rows == 1


def test_a_missing_file_suggests_near_names(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(LINES)
    with pytest.raises(DataError, match=r"there is no such file\. Did you mean .*train\.jsonl\?"):
        read_file(tmp_path / "trian.jsonl")


def test_a_folder_that_is_no_dataset_names_a_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(LINES)
    with pytest.raises(DataError, match=r"no saved dataset .*train\.jsonl"):
        read_file(tmp_path)


LOADERS: list[Callable[..., Any]] = [
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_ratings,
    load_texts,
]
NAMES = [
    "prompt",
    "chosen",
    "rejected",
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "completion",
    "response",
    "label",
    "text",
    "score",
    "scores",
    "ranks",
    "completions",
    "source",
    "system_output",
    "annotator1",
    "response1",
    "response2",
    "preference",
    "output_1",
    "output_2",
    "class",
    "tweet",
    "hate_speech",
    "offensive_language",
    "neither",
    "question",
    "passages",
    "instances",
    "history",
    "system",
    "role",
    "content",
    "from",
    "value",
    "pos_answer",
    "neg_answer",
    "answer",
    "data",
    "train",
    "S",
    "H",
    "margin",
    "probability",
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["user", "human", "assistant", "gpt", "\n\nHuman: a\n\nAssistant: b", "\ud800", "1", "good"]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=8),
    max_leaves=25,
)
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def attempt(path: Path) -> None:
    for load in LOADERS:
        for options in (ReadOptions(), ReadOptions(on_bad_row="skip", bad_rows_to=path.parent / "bad.jsonl")):
            try:
                load(path, options)
            except AssentError as error:
                assert str(error)


@QUIET
@given(
    content=st.binary(max_size=80),
    name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.txt", "a.gz", "a"]),
    head=st.sampled_from([b"", b"\x1f\x8b", b"PAR1", b"{", b"[", b"text,label\n"]),
)
def test_arbitrary_bytes_are_read_or_refused_with_a_message(
    tmp_path: Path, content: bytes, name: str, head: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(head + content)
    attempt(path)


@QUIET
@given(tree=TREES)
def test_arbitrary_json_is_read_or_refused_with_a_message(tmp_path: Path, tree: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tree))
    attempt(path)


@QUIET
@given(row=st.dictionaries(st.sampled_from(NAMES), TREES, min_size=2, max_size=9), name=st.integers(0, 50))
def test_arbitrary_rows_under_known_names_are_read_or_refused_by_every_format(
    tmp_path: Path, row: dict[str, Any], name: int
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    attempt(path)
    format_name = FORMATS[name % len(FORMATS)].name
    for load in LOADERS:
        try:
            load(path, ReadOptions(format=format_name))
        except AssentError as error:
            assert str(error)


def test_the_documentation_lists_every_format_with_what_it_holds() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `") and "--format" not in line]
    documented = {row[0].strip("`"): row[-1] for row in rows if len(row) == 3}
    assert documented == {known.name: known.kind.value for known in FORMATS}
