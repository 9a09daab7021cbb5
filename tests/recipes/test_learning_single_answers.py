"""Single answers with numbers: labels are learned, scores on another scale are refused where nothing is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import write_rows

from assent.algorithms.reward import judgements_of
from assent.data.load import load_labels
from assent.errors import DataError
from assent.recipes.run.call_settings import Call
from assent.recipes.run.given import judgement
from assent.recipes.run.inputs import Files, read_judgement
from assent.recipes.run.progress import Display
from assent.recipes.run.reading_settings import Learn, Reading
from assent.text.template import ChatTemplate
from assent.types import Comparison, Completion, Conversation, Rating

LEARN: tuple[Learn, ...] = ("auto", "labels")


def rated(*scores: float, name: str = "rating", same_prompt: bool = False) -> list[dict[str, Any]]:
    return [
        {"prompt": "q" if same_prompt else f"q{place}", "response": f"a{place}", name: score}
        for place, score in enumerate(scores)
    ]


def own(rows: list[dict[str, Any]]) -> list[Rating]:
    return [
        Rating(
            prompt=Conversation.of_user(row["prompt"]), completion=Completion(text=row["response"]), score=row["rating"]
        )
        for row in rows
    ]


def read(rows: list[dict[str, Any]], folder: Path, learn: Learn) -> tuple[list[Any], object]:
    path = write_rows(folder / "rows.jsonl", rows)
    files = Files(model="", out=folder / "out", data=(str(path),))
    found, load = read_judgement(files, Display(quiet=True), learn=learn, reading=Reading(), limit=None)
    return list(found.examples), load


@pytest.mark.parametrize("name", ["rating", "score", "helpfulness", "reward"])
@pytest.mark.parametrize("learn", LEARN)
def test_scores_of_different_prompts_are_no_labels(name: str, learn: Learn, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="scores from 1 to 5 are not labels") as caught:
        read(rated(1, 5, 2, name=name), tmp_path, learn)
    assert caught.value.where == str(tmp_path / "rows.jsonl") and "positive_labels" in str(caught.value.now)


def test_scores_of_one_prompt_are_compared(tmp_path: Path) -> None:
    (pair,), _ = read(rated(1, 5, same_prompt=True), tmp_path, "auto")
    assert isinstance(pair, Comparison) and (pair.chosen.text, pair.rejected.text) == ("a1", "a0")


@pytest.mark.parametrize("learn", LEARN)
def test_numbers_between_bad_and_good_are_soft_labels(learn: Learn, tmp_path: Path) -> None:
    found, load = read(rated(0.2, 0.9), tmp_path, learn)
    assert [one.score for one in found] == [0.2, 0.9] and load is load_labels  # held-out data is read alike


def test_a_negative_score_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="scores from -1 to 1"):
        read(rated(-1, 1, 0.5), tmp_path, "auto")


def test_a_program_learns_single_answers_as_a_file_does() -> None:
    call = Call(reading=Reading())
    for data in (rated(1, 5), own(rated(1, 5))):
        with pytest.raises(DataError, match="scores from 1 to 5 are not labels"):
            judgement(data, call, Display(quiet=True))
    assert [one.score for one in judgement(rated(0.25, 1), call, Display(quiet=True))] == [0.25, 1]
    assert [one.score for one in judgement(own(rated(0, 1)), call, Display(quiet=True))] == [0, 1]
    (pair,) = judgement(own(rated(1, 5, same_prompt=True)), call, Display(quiet=True))
    assert pair.chosen.text == "a1"


def test_no_way_to_the_loss_lets_another_scale_through(template: ChatTemplate) -> None:
    with pytest.raises(DataError, match="scores from 1 to 3"):
        judgements_of(own(rated(1, 3)), template, max_length=64)
