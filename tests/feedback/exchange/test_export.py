"""Exports: what other tools and our own training read, the same bytes twice, whole or not at all, in little memory."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from feedback.aggregated import pairs_of, rankings_of
from feedback.memory_source import MemorySource
from hypothesis import given
from hypothesis import strategies as st

from assent.data.load import load_comparisons, load_demonstrations, load_rankings, load_ratings
from assent.durable import whole_file
from assent.errors import AssentError, ConfigError, StoreError
from assent.feedback.exchange.aggregation import Aggregation
from assent.feedback.exchange.export import export
from assent.feedback.exchange.export_files import original_cell, safe_cell
from assent.feedback.exchange.export_rows import ROW_FORMATS, ExportOptions
from assent.types import Comparison, Conversation, Message, Role

TALK = Conversation(
    messages=(
        Message(role=Role.SYSTEM, content="Be short."),
        Message(role=Role.USER, content=" Hello\n\nHuman: not a turn "),
        Message(role=Role.ASSISTANT, content="Hi."),
        Message(role=Role.USER, content="Why is the sky blue? ü 日本 \u202e"),
    )
)
TEXTS = (" It scatters.\n", "=1+1", '@sum, "quoted"\r\nline', "-3", "\tx", "[1, 2]")


def full() -> MemorySource:
    """A store with every kind of answer."""
    kept = MemorySource()
    ranked = kept.add(*TEXTS, prompt=TALK)
    kept.say(ranked, 1, "ranking", {"ranks": [1, 2, 2, 3, 4, 5]})
    kept.say(ranked, 2, "ranking", {"ranks": [2, 1, 3, 3, 4, 5]}, order=(5, 4, 3, 2, 1, 0))
    kept.say(ranked, 3, "correction", {"slot": 0, "text": "It scatters, mostly blue."})
    pair = kept.add("yes", "no", prompt="Is it?")
    kept.say(pair, 1, "pairwise", {"strength": -2})
    kept.say(pair, 2, "pairwise", {"strength": 1})
    kept.say(pair, 3, "skip", {"reason": "unclear", "note": ""})
    rated = kept.add("one", "two", prompt="Count.")
    kept.say(rated, 1, "rating", {"ratings": {"helpful": [6, 3]}})
    written = kept.add(prompt="Write.")
    kept.say(written, 1, "demonstration", {"text": "Written."})
    chat = kept.add(prompt="chat")
    turn = {"conversation": [{"role": "user", "content": "hi"}], "a": "x", "b": "y", "choice": "b"}
    kept.say(chat, 1, "chat_turn", turn)
    kept.say(chat, 2, "red_team", {"conversation": turn["conversation"], "reached": 3, "note": "=cmd"})
    kept.undo(kept.say(pair, 4, "pairwise", {"strength": 3}))
    return kept


def bare(pairs: list[Comparison] | tuple[Comparison, ...]) -> list[tuple]:
    """What a pair holds, its answers without the blanks around them, as every answer is read."""
    return [(p.prompt, p.chosen.text.strip(), p.rejected.text.strip(), p.probability, p.margin) for p in pairs]


def grouping(pairs: list[Comparison] | tuple[Comparison, ...]) -> list[int]:
    names = list(dict.fromkeys(pair.group for pair in pairs))
    return [names.index(pair.group) for pair in pairs]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize(
    "aggregation",
    [Aggregation(), Aggregation(labels="margin"), Aggregation(consensus="votes"), Aggregation(labels="binary")],
    ids=str,
)
def test_pairs_come_back_as_they_went_soft_labels_margins_and_groups(
    aggregation: Aggregation, ending: str, tmp_path: Path
) -> None:
    kept, path = full(), tmp_path / f"pairs.{ending}"
    count = export(kept, 1, path, ExportOptions(aggregation=aggregation))
    wanted = pairs_of(kept.answered_items(1), consensus=aggregation.consensus, labels=aggregation.labels)
    read = load_comparisons(path)
    assert count == len(wanted) == len(read) and read.bad_rows == 0
    assert bare(read.examples) == bare(wanted)
    assert [one.group for one in read.examples] == [one.group for one in wanted]
    assert grouping(read.examples) == grouping(wanted)


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_rankings_come_back_with_their_ranks_and_ties(ending: str, tmp_path: Path) -> None:
    kept, path = full(), tmp_path / f"rankings.{ending}"
    export(kept, 1, path, ExportOptions(format="rankings", aggregation=Aggregation(consensus="votes")))
    wanted = rankings_of(kept.answered_items(1))
    read = load_rankings(path)
    assert [(r.prompt, [c.text for c in r.completions], r.ranks, r.group) for r in read.examples] == [
        (r.prompt, [c.text.strip() for c in r.completions], r.ranks, r.group)
        for r in wanted  # as every answer is read
    ]
    assert {pair.group for pair in load_comparisons(path).examples} == {r.group for r in wanted}


HARD = (
    "=1+1",
    "'=1+1",
    "''-x",
    "'quoted'",
    "'",
    '["a", "b"]',
    '{"a": 1}',
    "[1]",
    "- one\r\n- two",
    "\tx ",
    "7",
    "null",
)


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("pairs", load_comparisons),
        ("rankings", load_rankings),
        ("ratings", load_ratings),
        ("trl", load_comparisons),
        ("trl-conversational", load_comparisons),
    ],
)
def test_a_csv_of_ours_is_read_as_the_same_rows_as_json(name: str, load: Any, tmp_path: Path) -> None:
    kept = MemorySource()
    for place, text in enumerate(HARD):
        item = kept.add(text, "other", prompt=Conversation.of_user(text if place % 2 else f"{text} ?"))
        kind = ("pairwise", {"strength": 2}) if name != "ratings" else ("rating", {"ratings": {"helpful": [6, 3]}})
        kept.say(item, 1, *kind)
    read = []
    for ending in ("jsonl", "csv"):
        export(kept, 1, tmp_path / f"rows.{ending}", ExportOptions(format=name, models=True))
        read.append(load(tmp_path / f"rows.{ending}").examples)
    assert read[0] == read[1] and len(read[0]) >= len(HARD)


def test_a_csv_of_others_keeps_its_apostrophes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,chosen,rejected,margin\nq,'=1+1,no,0\n")
    assert load_comparisons(path).examples[0].chosen.text == "'=1+1"


def test_demonstrations_and_ratings_are_read_by_training(tmp_path: Path) -> None:
    kept = full()
    export(kept, 1, tmp_path / "shown.jsonl", ExportOptions(format="demonstrations"))
    shown = load_demonstrations(tmp_path / "shown.jsonl").examples
    assert [one.conversation.messages[-1].content for one in shown] == ["It scatters, mostly blue.", "Written."]
    export(kept, 1, tmp_path / "ratings.jsonl", ExportOptions(format="ratings"))
    assert [one.score for one in load_ratings(tmp_path / "ratings.jsonl").examples] == [6.0, 3.0]


def test_trl_rows_have_its_columns_and_no_ties(tmp_path: Path) -> None:
    kept = full()
    votes = pairs_of(kept.answered_items(1), consensus="votes")
    ties = sum(pair.probability == 0.5 for pair in votes)
    for name, kind in (("trl", str), ("trl-conversational", list)):
        count = export(
            kept, 1, tmp_path / f"{name}.jsonl", ExportOptions(format=name, aggregation=Aggregation(consensus="votes"))
        )
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert ties and count == len(rows) == len(votes) - ties
        assert all(list(row) == ["prompt", "chosen", "rejected", "margin"] for row in rows)
        assert all(isinstance(row[side], kind) for row in rows for side in ("prompt", "chosen", "rejected"))
    assert rows[0]["chosen"][0]["role"] == "assistant" and rows[0]["prompt"][-1]["role"] == "user"


def test_label_studio_tasks_have_an_annotation_for_each_person_with_a_preference(tmp_path: Path) -> None:
    kept = MemorySource()
    item = kept.add("yes", "no")
    for person, strength in ((1, -2), (2, 0), (3, 1)):
        kept.say(item, person, "pairwise", {"strength": strength})
    export(kept, 1, tmp_path / "tasks.json", ExportOptions(format="label-studio"))
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"] == {"prompt": "Why is the sky blue?", "answer1": "yes", "answer2": "no", "item": 1}
    results = [annotation["result"][0] for annotation in task["annotations"]]
    assert [(r["type"], r["value"], r["meta"]["person"]) for r in results] == [
        ("pairwise", {"selected": "left"}, 1),
        ("pairwise", {"selected": "right"}, 3),
    ]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("name", ROW_FORMATS)
def test_exporting_twice_gives_the_same_bytes(name: str, ending: str, tmp_path: Path) -> None:
    kept = full()
    for attempt in ("first", "second"):
        export(kept, 1, tmp_path / f"{attempt}.{ending}", ExportOptions(format=name, models=True))
    first, second = (tmp_path / f"{attempt}.{ending}" for attempt in ("first", "second"))
    assert first.read_bytes() == second.read_bytes() and first.stat().st_size > 0


@pytest.mark.parametrize("name", ROW_FORMATS)
def test_models_stay_out_unless_asked_for(name: str, tmp_path: Path) -> None:
    export(full(), 1, tmp_path / "blind.jsonl", ExportOptions(format=name))
    assert "model-" not in (tmp_path / "blind.jsonl").read_text()
    export(full(), 1, tmp_path / "seen.parquet", ExportOptions(format=name, models=True))
    columns = set(pyarrow.parquet.read_table(tmp_path / "seen.parquet").column_names)
    assert columns == set(ROW_FORMATS[name].header(models=True))


def test_an_edited_completion_has_no_model(tmp_path: Path) -> None:
    export(full(), 1, tmp_path / "pairs.jsonl", ExportOptions(models=True))
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    sides = {row["chosen"][0]["content"]: row["chosen_model"] for row in rows}
    assert sides["It scatters, mostly blue."] == "" and sides[" It scatters.\n"] == "model-0"


@pytest.mark.parametrize("name", ROW_FORMATS)
def test_no_cell_of_a_csv_starts_a_formula(name: str, tmp_path: Path) -> None:
    export(full(), 1, tmp_path / "rows.csv", ExportOptions(format=name, models=True))
    text = (tmp_path / "rows.csv").read_bytes().decode()
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert cells and not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))]
    assert text.startswith('"')


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\n＝ab0 "), max_size=6) | st.text(max_size=20))
def test_a_neutralised_cell_starts_no_formula_and_is_told_from_the_original(text: str) -> None:
    cell = safe_cell(text)
    assert not cell.startswith(tuple("=+-@\t\r\n＝＋－＠"))
    assert original_cell(cell) == text


def test_an_export_that_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("old")
    kept = full()
    kept.record[-3] = replace(kept.record[-3], payload={"reached": "far"})
    with pytest.raises(StoreError, match="event"):
        export(kept, 1, path, ExportOptions(format="red-team"))
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError("killed")
    assert path.read_text() == "old" and [child.name for child in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_nothing_to_write_is_said_and_writes_nothing(tmp_path: Path) -> None:
    kept = MemorySource()
    kept.say(kept.add("a", "b"), 1, "skip", {"reason": "unclear", "note": ""})
    for ending in ("jsonl", "json", "csv", "parquet"):
        with pytest.raises(StoreError, match="no standing answer"):
            export(kept, 1, tmp_path / f"pairs.{ending}", ExportOptions())
    assert not list(tmp_path.iterdir())


def test_wrong_names_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "rankings"'):
        export(full(), 1, tmp_path / "x.jsonl", ExportOptions(format="ranking"))
    with pytest.raises(ConfigError, match=r"\.parquet"):
        export(full(), 1, tmp_path / "x.xlsx", ExportOptions())
    with pytest.raises(AssentError, match="cannot be written"):
        export(full(), 1, Path("/proc/nowhere/x.jsonl"), ExportOptions())


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_memory_does_not_grow_with_the_number_of_events(ending: str, tmp_path: Path) -> None:
    """100,000 events here; a million take the same."""
    peaks = []
    for items in (1_000, 50_000):
        command = [
            sys.executable,
            str(Path(__file__).with_name("export_process.py")),
            str(tmp_path / f"pairs.{ending}"),
            str(items),
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(told[0]) == items
        peaks.append(int(told[1]))
    assert peaks[1] < 200 and peaks[1] - peaks[0] < 40, peaks
