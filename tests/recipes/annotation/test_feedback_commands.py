"""The commands of `assent feedback`, from files to a store, its figures, and files that training takes."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from running import write_rows

from assent.data.load import load_comparisons, load_rankings
from assent.data.rows import SourceRow
from assent.errors import AssentError, ConfigError, DataError, StoreError
from assent.feedback.records import TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.recipes.annotation import feedback_commands, feedback_stats
from assent.recipes.annotation.feedback_reading import ImportJob, read_import, tool_of
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request

RANKED = [
    {"prompt": f"question {n}", "completions": [f"good {n}", f"middling {n}", f"bad {n}"], "ranks": [1, 2, 2 + n % 2]}
    for n in range(12)
]


def run(command: str, **flags: Any) -> str:
    """Run one command and return all it said."""
    said, out = io.StringIO(), io.StringIO()
    with redirect_stdout(out):
        function = getattr(feedback_stats if command == "stats" else feedback_commands, f"run_feedback_{command}")
        function(Request.of(flags), Display(Console(file=said, width=200)))
    return out.getvalue() + said.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with twelve ranked items of two people."""
    data = write_rows(tmp_path / "ranked.jsonl", RANKED)
    url = str(tmp_path / "feedback.db")
    run("import", store=url, project="helpful", data=[str(data)])
    other = [row | {"ranks": [2, 1, 3]} for row in RANKED[:6]]
    run("import", store=url, project="helpful", data=[str(write_rows(tmp_path / "second.jsonl", other))])
    return url


def test_rankings_come_in_with_their_answers_and_go_out_as_soft_pairs(store: str, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    assert "36 rows" in run("pairs", store=store, project="helpful", out=str(out))
    pairs = load_comparisons(out).examples
    labels = [pair.probability for pair in pairs]
    assert len(labels) == 36 and (labels.count(0.5), labels.count(0.75)) == (6 + 3, 3)
    assert len({pair.group for pair in pairs}) == 12
    rankings = tmp_path / "rankings.parquet"
    run("export", store=store, project=None, format="rankings", out=str(rankings))
    assert len(load_rankings(rankings)) == 18


def test_pairs_can_weigh_people_by_their_reliability_and_tell_it(store: str, tmp_path: Path) -> None:
    out = tmp_path / "weighed.jsonl"
    told = run("pairs", store=store, project="helpful", out=str(out), set=['consensus="reliability"'])
    assert "right " in told and "36 rows" in told and len(load_comparisons(out).examples) == 36
    with pytest.raises(ConfigError, match="only pairs"):
        run("export", store=store, project="helpful", format="trl", out=str(tmp_path / "trl.jsonl"),
            set=['consensus="reliability"'])  # fmt: skip


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"prompt": "p", "completions": ["a", "b"]}, {"prompt": "p", "completions": [1, 2]}),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": "p", "chosen": "a", "rejected": None}),
    ],
)
def test_bad_rows_are_set_aside_into_a_file_beside_the_store(
    tmp_path: Path, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    folder, url = tmp_path / "in", str(tmp_path / "feedback.db")
    folder.mkdir()
    data = write_rows(folder / "rows.jsonl", [good, bad, good | {"prompt": "q"}])
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        run("import", store=url, project="one", data=[str(data)])
    aside = tmp_path / "feedback.db.bad-rows-rows.jsonl.jsonl"
    assert not aside.exists() and not Path(url).exists()
    told = run("import", store=url, project="one", data=[str(data)], on_bad_row="skip")
    (kept,) = [json.loads(line) for line in aside.read_text().splitlines()]
    assert kept["line"] == 2 and kept["row"] == bad and kept["reason"]
    assert str(aside) in told and "2 items added" in told
    namesake = write_rows(tmp_path / "rows.jsonl", [good, bad])
    run("import", store=url, project="one", data=[str(data), str(namesake)], on_bad_row="skip")
    both = {f"feedback.db.bad-rows-rows.jsonl-{number}.jsonl" for number in (1, 2)}
    assert both <= {path.name for path in tmp_path.iterdir()}


def test_importing_the_same_file_twice_adds_nothing(store: str, tmp_path: Path) -> None:
    told = run("import", store=store, project="helpful", data=[str(tmp_path / "ranked.jsonl")])
    assert "0 items added, 12 were there already; 0 answers" in told


def test_the_figures_are_shown_and_written(store: str, tmp_path: Path) -> None:
    told = run("stats", store=store, project="helpful", out=str(tmp_path / "figures.json"))
    assert "imported ranked.jsonl" in told and "agreement" in told and "18" in told and "none altered" in told
    for name in ("Krippendorff's alpha", "Fleiss' kappa", "Cohen's kappa, imported ranked.jsonl and imported second"):
        (line,) = (line for line in told.splitlines() if line.startswith(name) and " of 6 items" in line)
        assert "[" in line
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["answers"] == 18 and found["agreement"]["count"] == 6
    assert found["annotator_agreement"]["alpha"]["count"] == 6 and len(found["completion_scores"]) == 12
    assert all(scores[0] > scores[2] for scores in found["completion_scores"].values())
    with pytest.raises(ConfigError, match="the file exists"):
        run("stats", store=store, project="helpful", out=str(tmp_path / "figures.json"))


def test_weights_are_given_by_name_or_number(store: str, tmp_path: Path) -> None:
    silent = ['weights={"imported second.jsonl" = 0.0}']
    run("pairs", store=store, project="helpful", out=str(tmp_path / "one.jsonl"), set=silent)
    assert all(pair.probability in (0.5, 1.0) for pair in load_comparisons(tmp_path / "one.jsonl").examples)
    with pytest.raises(ConfigError, match='no person "nobody"'):
        run("pairs", store=store, project="helpful", out=str(tmp_path / "x.jsonl"), set=["weights={nobody = 2.0}"])


def test_items_without_answers_and_samples_are_queued(tmp_path: Path) -> None:
    url = str(tmp_path / "feedback.db")
    rows = [{"prompt": "p", "completions": ["a", "b"], "stop_reasons": ["end", "length"]}]
    told = run("import", store=url, project="new", data=[str(write_rows(tmp_path / "samples.jsonl", rows))])
    assert "(pairwise): 1 items added" in told
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("First?\nSecond?\n")
    told = run("import", store=url, project="write", data=[str(prompts)], set=["topic=sky"])
    assert "(demonstration): 2 items added" in told
    with FeedbackStore.open(url, read_only=True) as opened:
        project = opened.project_named("write")
        assert project is not None and [item.new.topic for item in opened.items(project.id)] == ["sky", "sky"]
    with pytest.raises(StoreError, match="no standing answer"):
        run("pairs", store=url, project="new", out=str(tmp_path / "pairs.jsonl"))
    assert not (tmp_path / "pairs.jsonl").exists()


def test_answers_can_be_dropped_or_become_control_items(tmp_path: Path) -> None:
    url, data = str(tmp_path / "feedback.db"), str(write_rows(tmp_path / "ranked.jsonl", RANKED))
    run("import", store=url, project="anew", data=[data], set=["answers=drop"])
    run("import", store=url, project="controls", data=[data], set=["answers=control"])
    with FeedbackStore.open(url, read_only=True) as opened:
        projects = {project.name: project.id for project in opened.projects()}
        assert opened.events() == []
        assert [item.new.control_answer is None for item in opened.items(projects["anew"])] == [True] * 12
        assert all(item.new.control_answer for item in opened.items(projects["controls"]))
        assert opened.project(projects["anew"]).settings.mode is TaskMode.RANKING


@pytest.mark.parametrize(
    ("row", "tool"),
    [
        ({"prompt": "p", "completions": ["a", "b"]}, "items"),
        ({"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2]}, None),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, None),
        ({"data": {}, "annotations": []}, "label-studio"),
        ({"fields": {}, "responses": {}}, "argilla"),
        ({"prompt": "p", "q.responses": []}, "argilla"),
        ({"prompt": "p", "q": [{"value": 1, "user_id": "u"}]}, "argilla"),
        ({"messages": []}, None),
    ],
)
def test_a_file_is_known_by_its_rows(row: dict, tool: str | None) -> None:
    assert tool_of([SourceRow(place="", number=1, fields=row)]) == tool


def test_preferences_in_csv_and_parquet_come_in_alike(store: str, tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "json"):
        out = tmp_path / f"pairs.{ending}"
        run("export", store=store, project="helpful", format="pairs", out=str(out))
        if ending != "parquet":  # as programs for Windows save it
            out.write_bytes(b"\xef\xbb\xbf" + out.read_bytes())
        told = run("import", store=str(tmp_path / f"{ending}.db"), project="back", data=[str(out)])
        assert "(pairwise): 36 items added" in told and "36 answers" in told


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"store": None}, "no store was named"),
        ({"project": "helpfull"}, 'There are: "helpful"'),
        ({"set": ["labels=soft"]}, "labels"),
        ({"out": "pairs.xlsx"}, r"End the name in"),
    ],
)
def test_what_is_wrong_with_an_export_is_said(flags: dict, wanted: str, store: str, tmp_path: Path) -> None:
    with pytest.raises(AssentError, match=wanted):
        run("pairs", **({"store": store, "project": "helpful", "out": str(tmp_path / "pairs.jsonl")} | flags))


def test_files_that_are_too_large_packed_or_not_are_refused(tmp_path: Path) -> None:
    plain = tmp_path / "large.jsonl"
    plain.write_bytes(b'{"prompt": "p"}\n' * 70_000)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        with pytest.raises(DataError, match="more than 1 MiB"):
            read_import(path, ImportJob(most_megabytes=1))
    with pytest.raises(DataError, match="more than 10 rows"):
        read_import(plain, ImportJob(most_rows=10))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"PAR1", b"\x1f\x8b", b"[1, 2]", b'{"prompt": 1}', b"\x00" * 9]
)
def test_a_broken_file_adds_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError):
        run("import", store=str(tmp_path / "feedback.db"), project="new", data=[str(path)])
    assert not (tmp_path / "feedback.db").exists()


def test_one_bad_row_in_the_second_file_keeps_the_first_out_too(tmp_path: Path) -> None:
    good = write_rows(tmp_path / "good.jsonl", RANKED)
    bad = write_rows(tmp_path / "bad.jsonl", [*RANKED, {"prompt": "p", "completions": ["a", None], "ranks": [1, 2]}])
    with pytest.raises(DataError, match=r'bad.jsonl:13.*field "completions\[1\]"'):
        run("import", store=str(tmp_path / "feedback.db"), project="new", data=[str(good), str(bad)])
    assert not (tmp_path / "feedback.db").exists()


def _seeds() -> list[bytes]:
    tasks = [{"data": {"prompt": "p", "answer1": "x", "answer2": "y"}, "annotations": [{"result": [
        {"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "left"}}]}]}]  # fmt: skip
    records = [{"fields": {"prompt": "p", "response-1": "x", "response-2": "y"}, "responses": {"r": [
        {"value": ["response-2", "response-1"], "user_id": "u"}]}}]  # fmt: skip
    own = b'prompt,completion_1,completion_2,overlap\np,"a, b",c,2\n'
    return [json.dumps(tasks).encode(), json.dumps(records).encode(), json.dumps(RANKED[0]).encode(), own]


@given(data=st.data(), ending=st.sampled_from(["jsonl", "json", "csv", "parquet", "txt", "jsonl.gz"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_bytes_a_file_holds_only_a_data_error_comes_out(data: Any, ending: str, tmp_path: Path) -> None:
    content = bytearray(data.draw(st.sampled_from(_seeds())))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path = tmp_path / f"file.{ending}"
    path.write_bytes(gzip.compress(bytes(content)) if ending.endswith("gz") else bytes(content))
    named = data.draw(st.sampled_from([None, "items", "argilla", "label-studio"]))
    with contextlib.suppress(DataError):
        for one in read_import(path, ImportJob(), format_name=named).imported:
            assert one.item.prompt.messages and len(one.item.candidates) <= 9
