from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import pytest

from assent.errors import RunError
from assent.runs.logs import JsonLines, read_rows


def written(path: Path, steps: int) -> bytes:
    log = JsonLines(path)
    for step in range(1, steps + 1):
        log.append(step, {"loss": 1 / step, "text": "é\n"})
        log.append(step, {"loss": 2 / step})
    log.close()
    return path.read_bytes()


def test_a_log_cut_anywhere_and_continued_is_the_log_never_cut(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.jsonl", 4)
    assert b"\xc3\xa9\\n" in whole
    for cut in range(len(whole) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        log = JsonLines(path)
        rows = read_rows(path)
        assert rows == read_rows(tmp_path / "whole.jsonl")[: len(rows)]
        done = max((row["step"] for row in rows), default=0) - 1
        log.truncate_after(done)
        for step in range(max(1, done + 1), 5):
            log.append(step, {"loss": 1 / step, "text": "é\n"})
            log.append(step, {"loss": 2 / step})
        log.close()
        assert path.read_bytes() == whole


def test_a_torn_end_of_zeros_is_cut(tmp_path: Path) -> None:
    whole = written(tmp_path / "log.jsonl", 2)
    (tmp_path / "log.jsonl").write_bytes(whole + b"\0" * 50 + b"\n")
    JsonLines(tmp_path / "log.jsonl").close()
    assert (tmp_path / "log.jsonl").read_bytes() == whole


def test_a_broken_row_in_the_middle_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\nbroken\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"log\.jsonl:2: not a row"):
        JsonLines(path).truncate_after(3)


def test_numbers_that_are_not_finite_are_null_and_rows_are_json(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    log.append(1, {"loss": math.nan, "parts": [math.inf, 1.5], "by": {"k": -math.inf}})
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {
        "step": 1,
        "loss": None,
        "parts": [None, 1.5],
        "by": {"k": None},
    }


def test_without_space_the_rows_before_are_whole_and_the_log_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = JsonLines(path)
    log.append(1, {"loss": 1.0})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(RunError, match="no space left"):
            log.append(2, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    log.append(2, {"loss": 0.5})
    assert [row["step"] for row in read_rows(path)] == [1, 2]


def test_an_absent_log_has_no_rows_and_a_growing_one_shows_whole_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "absent.jsonl") == []
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}')
    assert read_rows(tmp_path / "log.jsonl") == [{"step": 1}]
