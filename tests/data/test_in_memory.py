"""Rows that a program holds are the rows of a file: the same examples, the same errors."""

from __future__ import annotations

import dataclasses
import io
import json
import types
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
import torch

from assent.data.in_memory import listed, rows_in_memory
from assent.data.load import Dataset, ReadOptions, load_comparisons, load_demonstrations, load_prompts, load_ratings
from assent.errors import DataError

PAIRS = [
    {"prompt": "Where does Ada live?", "chosen": "In Rome.", "rejected": "No."},
    {"prompt": "Who?", "chosen": "Me.", "rejected": "You."},
]
TALKS = [
    {"messages": [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day."}]},
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]},
]
COLUMNS = {name: [row[name] for row in PAIRS] for name in PAIRS[0]}
Named = namedtuple("Named", ["prompt", "chosen", "rejected"])


@dataclasses.dataclass
class AnsweredItem:
    prompt: str
    chosen: str
    rejected: str


def of_file(load: Callable[..., Dataset[Any]], rows: list[dict[str, Any]], folder: Path) -> tuple[Any, ...]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(path).examples


def in_memory(load: Callable[..., Dataset[Any]], data: object, **options: Any) -> tuple[Any, ...]:
    return load(rows_in_memory(listed(data)), ReadOptions(**options)).examples


HOLDERS: dict[str, Callable[[], object]] = {
    "list": lambda: PAIRS,
    "tuple": lambda: tuple(PAIRS),
    "generator": lambda: (row for row in PAIRS),
    "mapping proxies": lambda: [types.MappingProxyType(row) for row in PAIRS],
    "named tuples": lambda: [Named(**row) for row in PAIRS],
    "dataclasses": lambda: [AnsweredItem(**row) for row in PAIRS],
    "columns": lambda: COLUMNS,
    "columns of arrays": lambda: {name: np.array(cells, object) for name, cells in COLUMNS.items()},
    "columns of series": lambda: {name: pandas.Series(cells) for name, cells in COLUMNS.items()},
    "pandas": lambda: pandas.DataFrame(PAIRS, index=[7, 3]),
    "pandas with strings": lambda: pandas.DataFrame(PAIRS).convert_dtypes(),
    "pyarrow": lambda: pyarrow.Table.from_pylist(PAIRS),
    "pyarrow batch": lambda: pyarrow.RecordBatch.from_pylist(PAIRS),
    "datasets": lambda: datasets.Dataset.from_list(PAIRS),
    "datasets of one split": lambda: datasets.DatasetDict(train=datasets.Dataset.from_list(PAIRS)),
    "datasets stream": lambda: datasets.Dataset.from_list(PAIRS).to_iterable_dataset(),
    "one split": lambda: {"train": PAIRS},
    "polars": lambda: types.SimpleNamespace(to_dicts=lambda: PAIRS),
    "polars lazy": lambda: types.SimpleNamespace(
        collect_schema=dict, collect=lambda: types.SimpleNamespace(to_dicts=lambda: PAIRS)
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_whatever_holds_the_rows_they_are_those_of_a_file(name: str, tmp_path: Path) -> None:
    assert in_memory(load_comparisons, HOLDERS[name]()) == of_file(load_comparisons, PAIRS, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        TALKS,
        {"messages": [row["messages"] for row in TALKS]},
        [row["messages"] for row in TALKS],
        [tuple(row["messages"]) for row in TALKS],
        pandas.DataFrame({"messages": [np.array(row["messages"]) for row in TALKS]}),
        datasets.Dataset.from_list(TALKS),
    ],
    ids=["rows", "columns", "lists", "tuples", "pandas", "datasets"],
)
def test_conversations_are_those_of_a_file(data: object, tmp_path: Path) -> None:
    assert in_memory(load_demonstrations, data) == of_file(load_demonstrations, TALKS, tmp_path)


def test_one_row_needs_no_list(tmp_path: Path) -> None:
    for data in (PAIRS[0], Named(**PAIRS[0]), AnsweredItem(**PAIRS[0])):
        assert in_memory(load_comparisons, data) == of_file(load_comparisons, PAIRS[:1], tmp_path)
    for talk in (TALKS[0], TALKS[0]["messages"]):
        assert in_memory(load_demonstrations, talk) == of_file(load_demonstrations, TALKS[:1], tmp_path)
    ranked = {"prompt": "Who?", "completions": ["Me.", "You."], "scores": [1.0, 0.5]}
    assert in_memory(load_comparisons, ranked) == of_file(load_comparisons, [ranked], tmp_path)


def test_what_pandas_lacks_is_null_and_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    rows = [{"prompt": "Who?", "completion": "Me.", "score": 1}, {"prompt": "Who?", "completion": "You.", "score": 0}]
    frame = pandas.DataFrame(rows).assign(system=[None, "Be brief."], score=np.array([1, 0], np.int8))
    expected = of_file(load_ratings, [{**rows[0], "system": None}, {**rows[1], "system": "Be brief."}], tmp_path)
    assert in_memory(load_ratings, frame) == expected
    frame.loc[1, "completion"] = np.nan
    with pytest.raises(DataError, match='row 2: field "completion": expected text, got null'):
        in_memory(load_ratings, frame)


def test_texts_are_prompts_in_their_order() -> None:
    told = in_memory(load_prompts, ["Hello!", "Who?", "Hello!"])
    assert [one.last_user_text for one in told] == ["Hello!", "Who?", "Hello!"]


def test_a_bad_row_is_named_by_its_number_and_may_be_set_aside() -> None:
    rows = [PAIRS[0], {**PAIRS[1], "chosen": None}, PAIRS[1], 7]
    with pytest.raises(DataError, match='row 2: field "chosen": expected text or a list of messages, got null'):
        in_memory(load_comparisons, rows)
    kept = load_comparisons(rows_in_memory(rows), ReadOptions(on_bad_row="skip"))
    assert (len(kept), kept.bad_rows) == (2, 2)


SPLIT = datasets.Dataset.from_list(PAIRS)
REFUSED = {
    "None": (None, "None holds no rows. Give a path, a list of dicts"),
    "number": (3, "an int holds no rows"),
    "function": (lambda: 0, "a function holds no rows"),
    "bytes": (b"x", "a bytes holds no rows"),
    "class": (pandas.DataFrame, "this is a class, not data"),
    "open file": (io.StringIO("{}"), "this is an open file. Give its path"),
    "model": (torch.nn.Linear(1, 1), "a torch.Linear holds no rows"),
    "nothing": ([], "there are no rows"),
    "empty frame": (pandas.DataFrame(), "there are no rows"),
    "empty columns": ({"prompt": [], "chosen": []}, "there are no rows"),
    "numbers": (np.arange(3), "row 1: expected a dict with named fields, got an int"),
    "tensor": (torch.ones(2, 2), "row 1: expected a dict with named fields, got a list"),
    "positions": ([("a", "b", "c")], 'got a tuple; write {"prompt": ..., "chosen": ..., "rejected": ...}'),
    "several splits": (datasets.DatasetDict(train=SPLIT, test=SPLIT), "several splits: train, test. Give one of them"),
    "several named splits": ({"train": PAIRS, "test": PAIRS}, 'Give one of them, e.g. data["train"]'),
    "unequal columns": ({"prompt": ["a", "b"], "chosen": ["c"]}, "prompt has 2, chosen has 1"),
    "equal names": (pandas.DataFrame([["a", "b"]], columns=["x", "x"]), 'two columns are called "x"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_rows_is_refused_by_what_it_is(name: str) -> None:
    data, expected = REFUSED[name]
    with pytest.raises(DataError) as caught:
        in_memory(load_comparisons, data)
    assert expected in str(caught.value)
