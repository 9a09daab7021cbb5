"""Work beside this process: the same result with one core and with two, and failures that are told."""

from __future__ import annotations

import os
from operator import add

import pytest

from assent.errors import DataError, RunError
from assent.recipes.run import second_process as beside
from assent.recipes.run.second_process import SecondProcess


def _refuse() -> int:
    raise DataError("that cannot be read", where="here", now="Look.")


def _die() -> None:
    os._exit(3)


@pytest.mark.parametrize("cores", [1, 2])
def test_the_result_is_that_of_the_call(cores: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beside, "cores", lambda: cores)
    assert SecondProcess(add, 2, 3).result() == 5


def test_with_two_cores_it_is_another_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beside, "cores", lambda: 2)
    assert SecondProcess(os.getpid).result() != os.getpid()


def test_a_refusal_over_there_is_told_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beside, "cores", lambda: 2)
    with pytest.raises(RunError, match=r"here: that cannot be read\. Look\."):
        SecondProcess(_refuse).result()


def test_a_process_that_dies_is_named_with_its_exit_code(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beside, "cores", lambda: 2)
    with pytest.raises(RunError, match="exit code 3"):
        SecondProcess(_die).result()
