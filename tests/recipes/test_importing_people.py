"""Judgement in a file stays that of its people, by its criteria: none of it is mixed, and none of it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import Ran, assent, worked, write_rows

from assent.data.load import load_comparisons, load_ratings
from assent.feedback.store.store import FeedbackStore

Said = list[tuple[str, dict[str, Any]]]


def imported(folder: Path, rows: list[dict[str, Any]], *flags: str) -> Ran:
    data = write_rows(folder / "rows.jsonl", rows)
    store = folder / "judged.db"
    return assent("feedback", "import", "--store", store, "--project", "p", "--data", data, *flags)


def said(folder: Path) -> Said:
    with FeedbackStore.open(str(folder / "judged.db"), read_only=True) as store:
        people = {person.id: person.name.removeprefix("imported ") for person in store.people()}
        return sorted(((people[event.person_id], dict(event.payload)) for event in store.events()), key=str)


@pytest.mark.parametrize("column", ["who", "annotator", "annotator_id", "annotator", "worker_id", "user", "judge"])
def test_every_person_keeps_their_ranking(column: str, tmp_path: Path) -> None:
    row = {"prompt": "q", "completions": ["a", "b", "c"]}
    rows = [row | {"ranks": ranks, column: name} for name, ranks in
            (("ann", [1, 2, 3]), ("bob", [1, 2, 3]), ("cec", [3, 2, 1]))]  # fmt: skip
    ran = imported(tmp_path, rows)
    assert ran.code == 0 and "3 answers of 3 people kept" in ran.err
    assert said(tmp_path) == [
        ("ann", {"ranks": [1, 2, 3]}),
        ("bob", {"ranks": [1, 2, 3]}),
        ("cec", {"ranks": [3, 2, 1]}),
    ]


def test_people_who_saw_the_completions_in_another_order_judged_the_same_item(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completions": texts, "ranks": [1, 2, 3], "who": who}
            for who, texts in (("ann", ["a", "b", "c"]), ("bob", ["c", "a", "b"]))]  # fmt: skip
    assert "1 items added" in imported(tmp_path, rows).err
    assert said(tmp_path) == [("ann", {"ranks": [1, 2, 3]}), ("bob", {"ranks": [2, 3, 1]})]


def test_every_person_keeps_their_pair_and_their_label(tmp_path: Path) -> None:
    pairs = [{"prompt": "q", "chosen": good, "rejected": bad, "annotator": name}
             for name, good, bad in (("ann", "a", "b"), ("bob", "a", "b"), ("cec", "b", "a"))]  # fmt: skip
    (tmp_path / "pairs").mkdir()
    ran = imported(tmp_path / "pairs", pairs)
    assert "1 items added" in ran.err and "3 answers of 3 people kept" in ran.err
    assert said(tmp_path / "pairs") == [("ann", {"strength": -3}), ("bob", {"strength": -3}), ("cec", {"strength": 3})]
    labels = [{"prompt": "q", "completion": "a", "label": good, "who": name}
              for name, good in (("ann", True), ("bob", False), ("cec", False))]  # fmt: skip
    assert "3 answers of 3 people kept" in imported(tmp_path, labels).err
    assert [(name, payload["good"]) for name, payload in said(tmp_path)] == [
        ("ann", [True]), ("bob", [False]), ("cec", [False])
    ]  # fmt: skip


def test_two_people_who_rate_the_same_answers_are_two_answers(tmp_path: Path) -> None:
    scores = (("p1", "a", 7), ("p1", "b", 5), ("p2", "b", 1), ("p2", "a", 3))
    rows = [{"prompt": "q", "completion": text, "score": score, "who": who} for who, text, score in scores]
    ran = imported(tmp_path, rows)
    assert "1 items" in ran.err and "2 answers of 2 people kept" in ran.err
    assert said(tmp_path) == [("p1", {"ratings": {"helpful": [7, 5]}}), ("p2", {"ratings": {"helpful": [3, 1]}})]


def test_a_second_score_without_a_name_is_another_answer(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "completion": text, "score": score} for text, score in (("a", 7), ("b", 5), ("a", 3), ("b", 1))
    ]
    assert imported(tmp_path, rows).code == 0
    assert said(tmp_path) == [
        ("rows.jsonl #2", {"ratings": {"helpful": [3, 1]}}), ("rows.jsonl", {"ratings": {"helpful": [7, 5]}})
    ]  # fmt: skip


def test_equal_rows_without_a_name_are_kept_once_and_counted(tmp_path: Path) -> None:
    ran = imported(tmp_path, [{"prompt": "q", "completions": ["a", "b"], "ranks": [1, 2]}] * 3)
    assert "1 answers of 1 people kept" in ran.err
    assert "2 annotations were left out: 2 equal to another of the same person" in ran.err


BY_CRITERION = [
    {"prompt": "q", "completion": text, "score": score, "criterion": criterion, "who": "ann"}
    for text, score, criterion in (("a", 7, "helpful"), ("b", 2, "helpful"), ("a", 1, "honest"), ("b", 6, "honest"))
]


def test_the_ratings_that_a_store_gives_come_back_by_person_and_criterion(tmp_path: Path) -> None:
    assert imported(tmp_path, BY_CRITERION).code == 0
    assert said(tmp_path) == [("ann", {"ratings": {"helpful": [7, 2], "honest": [1, 6]}})]
    out, again = tmp_path / "ratings.jsonl", tmp_path / "again.db"
    export = ("feedback", "export", "--project", "p", "--format", "ratings", "--out")
    worked(*export, out, "--store", tmp_path / "judged.db")
    worked("feedback", "import", "--store", again, "--project", "p", "--data", out)
    worked(*export, tmp_path / "again.jsonl", "--store", again)
    assert scores_of(tmp_path / "again.jsonl") == scores_of(out) == [
        ("helpful", "a", 7), ("helpful", "b", 2), ("honest", "a", 1), ("honest", "b", 6)
    ]  # fmt: skip


def scores_of(path: Path) -> list[tuple[str, str, float]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {one.criterion for one in load_ratings(path).examples} == {"helpful", "honest"}
    return sorted((row["criterion"], row["completion"], row["score"]) for row in rows)


def test_scores_are_compared_within_one_criterion_and_one_person(tmp_path: Path) -> None:
    data = load_comparisons(write_rows(tmp_path / "rows.jsonl", BY_CRITERION))
    assert [(one.chosen.text, one.rejected.text) for one in data.examples] == [("a", "b"), ("b", "a")]
    assert "compared separately by each criterion: helpful, honest" in data.notes
    scores = (("mild", "a", 6), ("mild", "b", 7), ("hard", "a", 1), ("hard", "b", 3))
    strict = [{"prompt": "q", "completion": text, "score": score, "who": who} for who, text, score in scores]
    pairs = load_comparisons(write_rows(tmp_path / "people.jsonl", strict)).examples
    assert [(one.chosen.text, one.rejected.text, one.provenance.who) for one in pairs] == [
        ("b", "a", "mild"), ("b", "a", "hard")
    ]  # fmt: skip


def test_a_long_text_or_an_object_is_nobody(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "user": user} for user in ("line\nline", "x" * 101, {"id": 1})
    ]
    pairs = load_comparisons(write_rows(tmp_path / "rows.jsonl", rows)).examples
    assert [one.provenance.who for one in pairs] == [None, None, None]
