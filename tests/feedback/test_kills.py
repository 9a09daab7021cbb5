"""kill -9 of a real writing process, and of PostgreSQL, loses nothing acknowledged (a small run of the campaign)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from feedback.postgres import Server, reason_to_skip
from feedback.store_fixtures import annotators, answer, postgres_server, ranking_project

from assent.feedback.refusals import Unavailable
from assent.feedback.store.store import FeedbackStore

__all__ = ["postgres_server"]
ROOT = Path(__file__).parents[2]


def _campaign(*arguments: str) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.store_kill", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _nothing_lost(figures: dict[str, int]) -> None:
    assert figures["acknowledged"] > 20
    assert (figures["lost"], figures["duplicate"], figures["items_over_overlap"]) == (0, 0, 0)


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_was_acknowledged() -> None:
    _nothing_lost(_campaign("--cycles", "12", "--annotators", "32"))


@pytest.mark.slow
def test_a_killed_postgresql_loses_nothing_that_was_acknowledged() -> None:
    if reason_to_skip() is not None:
        pytest.skip(str(reason_to_skip()))
    _nothing_lost(_campaign("--cycles", "3", "--annotators", "8", "--postgres"))


@pytest.mark.slow
def test_a_process_killed_while_it_writes_to_postgresql_loses_nothing_that_was_acknowledged() -> None:
    if reason_to_skip() is not None:
        pytest.skip(str(reason_to_skip()))
    _nothing_lost(_campaign("--cycles", "4", "--annotators", "16", "--postgres", "--process"))


@pytest.mark.slow
def test_a_restarted_postgresql_goes_unnoticed_by_whoever_waits(postgres_server: Server) -> None:
    with FeedbackStore.open(postgres_server.fresh_schema("restarted")) as store:
        project = ranking_project(store, count=3)
        (person,) = annotators(store, project, 1)
        shown = store.lease(project, person, count=3)
        first = store.submit(person, answer(shown[0])).result()
        postgres_server.crash()
        waiting = store.submit(person, answer(shown[1]))
        postgres_server.start()
        assert waiting.result().seq == first.seq + 1
        assert [event.seq for event in store.events(project)] == [1, 2]
        assert store.verify_chain() == 2


def test_a_server_that_is_not_there_is_a_clean_refusal(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be used now"):
        FeedbackStore.open(f"postgresql://nobody:secret@/none?host={tmp_path}")
