"""Run folders as the studio reads them: whole, cut, growing, and hostile."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from assent.feedback.refusals import NotFound
from assent.runs.folder import RunDir
from assent.studio import runs as runs_module
from assent.studio.runs import RunFolders


def written_run(root: Path, name: str, rows: int = 0, **status: object) -> Path:
    """A run folder as a stopped process leaves it."""
    folder = root / name
    folder.mkdir(parents=True)
    whole = {"kind": "ppo", "state": "finished", "step": 5, "total": 9, "updated": "2026-01-01T00:00:00+00:00"}
    (folder / "status.json").write_text(json.dumps({**whole, **status}))
    (folder / "config.json").write_text('{"seed": 1}')
    lines = [json.dumps({"step": i, "reward": i / 10}) + "\n" for i in range(1, rows + 1)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def all_rows(folders: RunFolders, name: str) -> list[float]:
    steps, cursor = [], ""
    while True:
        page = folders.metrics(name, cursor)
        steps += [row["step"] for row in page.rows]
        cursor = page.cursor
        if not page.more:
            return steps


def test_a_real_run_is_read_while_it_runs_and_after(tmp_path: Path) -> None:
    folders = RunFolders(tmp_path)
    run = RunDir.create(tmp_path / "one", kind="sft", settings={"seed": 3}, lineage={"seed": 3}, total=4)
    run.metrics.append(1, {"loss": 2.0, "broken": float("nan")})
    assert (folders.run("one").state, folders.run("one").total) == ("running", 4)
    first = folders.metrics("one")
    assert first.rows == ({"step": 1, "loss": 2.0},)
    run.metrics.append(2, {"loss": 1.0})
    second = folders.metrics("one", first.cursor)
    assert (second.rows, second.fresh) == (({"step": 2, "loss": 1.0},), False)
    run.close()
    assert folders.run("one").state == "killed"  # it says running and nobody holds it
    assert folders.document("one", "config") == {"seed": 3}


def test_runs_are_found_below_folders_and_the_latest_comes_first(tmp_path: Path) -> None:
    written_run(tmp_path, "old", updated="2026-01-01T00:00:00+00:00")
    written_run(tmp_path, "deep/er/new", updated="2026-02-01T00:00:00+00:00")
    written_run(tmp_path, "too/deep/for/us")
    written_run(tmp_path, "old/checkpoints/step-1")
    assert [run.name for run in RunFolders(tmp_path).runs()] == ["deep/er/new", "old"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../outside",
        "inside/../../outside",
        "/etc",
        "./one",
        "one/",
        "one//",
        ".hidden",
        "one\0",
        "a\\b",
        "x" * 999,
        "a/b/c/d",
    ],
)
def test_a_name_cannot_lead_outside(tmp_path: Path, name: str) -> None:
    written_run(tmp_path, "outside")
    written_run(tmp_path, "root/.hidden")
    written_run(tmp_path, "root/inside")
    with pytest.raises(NotFound):
        RunFolders(tmp_path / "root").metrics(name)


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = written_run(tmp_path, "secret", rows=3)
    root = tmp_path / "root"
    inside = written_run(root, "inside")
    (root / "link").symlink_to(secret)
    (inside / "metrics.jsonl").unlink()
    (inside / "metrics.jsonl").symlink_to(secret / "metrics.jsonl")
    (inside / "samples.jsonl").symlink_to("/etc/passwd")
    folders = RunFolders(root)
    assert [run.name for run in folders.runs()] == ["inside"]
    assert folders.metrics("inside").rows == ()
    assert folders.samples("inside") == []
    with pytest.raises(NotFound):
        folders.run("link")


def test_a_pipe_in_place_of_a_log_blocks_nothing(tmp_path: Path) -> None:
    folder = written_run(tmp_path, "one", state="running")
    (folder / "metrics.jsonl").unlink()
    os.mkfifo(folder / "metrics.jsonl")
    os.mkfifo(folder / ".lock")
    assert RunFolders(tmp_path).metrics("one").rows == ()
    assert RunFolders(tmp_path).run("one").state == "killed"


def test_a_held_lock_means_running(tmp_path: Path) -> None:
    folder = written_run(tmp_path, "one", state="running")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert RunFolders(tmp_path).run("one").state == "running"


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    folder = written_run(tmp_path, "one", rows=2)
    with (folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "rew')
        log.flush()
        page = RunFolders(tmp_path).metrics("one")
        assert [row["step"] for row in page.rows] == [1, 2]
        assert not page.more
        log.write('ard": 1}\n')
    assert [row["step"] for row in RunFolders(tmp_path).metrics("one", page.cursor).rows] == [3]


def test_a_log_that_was_cut_and_grew_again_is_read_anew(tmp_path: Path) -> None:
    folder = written_run(tmp_path, "one", rows=20)
    folders = RunFolders(tmp_path)
    cursor = folders.metrics("one").cursor
    lines = [json.dumps({"step": i, "reward": -1.0}) + "\n" for i in range(1, 41)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    page = folders.metrics("one", cursor)
    assert page.fresh
    assert len(page.rows) == 40
    assert not folders.metrics("one", page.cursor).fresh


@pytest.mark.parametrize("cursor", ["-1-0", "x", "9999999-00000000", "9" * 40 + "-0", "１-0", "5-nonsense", "--"])
def test_a_cursor_that_was_never_given_starts_anew(tmp_path: Path, cursor: str) -> None:
    written_run(tmp_path, "one", rows=3)
    page = RunFolders(tmp_path).metrics("one", cursor)
    assert page.fresh
    assert len(page.rows) == 3


def test_a_long_log_comes_in_pieces_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "PAGE_BYTES", 1000)
    written_run(tmp_path, "one", rows=500)
    assert all_rows(RunFolders(tmp_path), "one") == list(range(1, 501))


def test_of_a_huge_log_only_the_end_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "HISTORY_BYTES", 2000)
    written_run(tmp_path, "one", rows=500)
    steps = all_rows(RunFolders(tmp_path), "one")
    assert steps == list(range(int(steps[0]), 501))
    assert 40 < len(steps) < 100


def test_lines_that_are_no_rows_are_passed_over(tmp_path: Path) -> None:
    folder = written_run(tmp_path, "one")
    lines = [
        b"not json",
        b"[1, 2]",
        b'{"reward": 1}',
        b"\xff\xfe",
        b'{"step": 1, "text": "x", "yes": true, "big": 1e999}',
    ]
    lines += [b"[" * 5000, b'{"step": ' + b"9" * 5000 + b"}", b"x" * 70_000, b'{"step": 2, "\\ud800": 1}']
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    rows = RunFolders(tmp_path).metrics("one").rows
    assert rows == ({"step": 1}, {"step": 2, "?": 1})
    json.dumps(rows).encode()


def test_a_line_without_an_end_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "PAGE_BYTES", 100_000)
    folder = written_run(tmp_path, "one")
    (folder / "metrics.jsonl").write_bytes(b"x" * 350_000 + b'\n{"step": 7}\n')
    assert all_rows(RunFolders(tmp_path), "one") == [7]


def test_samples_come_with_what_they_have(tmp_path: Path) -> None:
    folder = written_run(tmp_path, "one")
    rows = [
        {"step": 1, "prompt": "p", "completion": "<script>", "stop": "end", "reward": 0.5},
        {"step": 2, "prompt": 7, "completion": "x" * 20_000, "reward": None},
        {"step": "no"},
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = RunFolders(tmp_path).samples("one")
    assert (first.completion, first.reward) == ("<script>", 0.5)
    assert (second.prompt, len(second.completion), second.reward) == ("", runs_module.SAMPLE_CHARACTERS, None)


@pytest.mark.parametrize("status", ["", "[]", "nonsense", '{"state": 5, "step": -1, "total": "x"}'])
def test_a_damaged_status_is_no_accident(tmp_path: Path, status: str) -> None:
    folder = written_run(tmp_path, "one")
    (folder / "status.json").write_text(status)
    found = RunFolders(tmp_path).runs()
    assert [(run.state, run.step, run.total) for run in found] in ([], [("", 0, 0)])


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path: Path) -> None:
    assert RunFolders(tmp_path / "nowhere").runs() == []
