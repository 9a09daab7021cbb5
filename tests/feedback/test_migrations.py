"""Every older schema becomes the newest with its data; killed at any point it is still a whole older one."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from feedback.store_fixtures import annotators, answer, clock, postgres_server, ranking_project, store_url

from assent.errors import StoreError
from assent.feedback.store import schema
from assent.feedback.store.engine import Database, parse_url
from assent.feedback.store.migrating import NEWEST, migrate, version_of
from assent.feedback.store.store import FeedbackStore

__all__ = ["clock", "postgres_server", "store_url"]
VERSIONS = [str(number) for number in range(1, int(NEWEST) + 1)]
OLD_DATA = (
    "INSERT INTO people VALUES (1, 'Ada', 'ada', 'annotator', '', 1, '[]', 1.0)",
    "INSERT INTO projects VALUES (1, 'old', '{\"mode\": \"ranking\"}', 0, 0, 1.0, 1, 1, 0, 0, 0, 0, 0)",
    "INSERT INTO items VALUES (1, 1, 'k', '', 0.0, 1, 0, 0, 0, 0, 0, 1, 1.0)",
    'INSERT INTO contents VALUES (1, \'{"prompt": [{"role": "user", "content": "q"}], "candidates": ['
    '{"text": "a", "stop": "end", "model": "", "checkpoint_sha256": "", "sampling": {}},'
    '{"text": "b", "stop": "end", "model": "", "checkpoint_sha256": "", "sampling": {}}],'
    ' "control_answer": null, "serves": "", "sensitive": false, "batch": ""}\')',
)


def _at_version(url: str, version: str) -> None:
    database = Database(parse_url(url), read_only=False)
    migrate(database, to=version)
    with database.writing.begin() as connection:
        for statement in OLD_DATA:
            connection.exec_driver_sql(statement)
    database.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_older_schema_migrates_with_its_data(store_url: str, version: str) -> None:
    _at_version(store_url, version)
    with FeedbackStore.open(store_url) as store:
        assert store.project_named("old").settings.criteria == ()
        store.set_members(1, [1])
        shown = store.lease(1, 1)[0]
        assert shown.item.new.prompt.last_user_text == "q"
        assert store.submit(1, answer(shown)).result().seq == 1
        assert store.verify_chain() == 1


def test_the_migrated_tables_are_those_of_the_schema(store_url: str) -> None:
    database = Database(parse_url(store_url), read_only=False)
    migrate(database)
    with database.reading.connect() as connection:
        inspector = sa.inspect(connection)
        found = {name: [c["name"] for c in inspector.get_columns(name)] for name in inspector.get_table_names()}
        assert version_of(connection) == NEWEST
    database.close()
    found.pop("alembic_version")
    assert found == {table.name: [column.name for column in table.columns] for table in schema.metadata.tables.values()}


def test_a_store_of_a_newer_program_is_refused(store_url: str) -> None:
    FeedbackStore.open(store_url).close()
    database = Database(parse_url(store_url), read_only=False)
    with database.writing.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '99'")
    database.close()
    for read_only in (False, True):
        with pytest.raises(StoreError, match="newer"):
            FeedbackStore.open(store_url, read_only=read_only)


KILLED = """
import os, signal, sqlite3, sys
from assent.feedback.store import engine
from assent.feedback.store.store import FeedbackStore
calls, limit = 0, int(sys.argv[2])
def connect(path, read_only):
    connection = engine._connect_sqlite(path, read_only)
    def count(statement):
        global calls
        calls += 1
        if calls == limit:
            os.kill(os.getpid(), signal.SIGKILL)
    connection.set_trace_callback(count)
    return connection
FeedbackStore.open(sys.argv[1], connect=connect).close()
print(calls)
"""


def _migrate_killed_at(path: Path, statement: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, str(path), str(statement)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("version", [None, "1"])
def test_a_migration_killed_inside_leaves_the_old_schema_whole(tmp_path: Path, version: str | None) -> None:
    old = tmp_path / "old.db"
    if version is not None:
        _at_version(str(old), version)
    whole = tmp_path / "whole.db"
    if version is not None:
        shutil.copy(old, whole)
    statements = int(_migrate_killed_at(whole, 10**9).stdout)
    assert statements > 10
    for statement in sorted({3, *range(9, statements, statements // 3), statements}):
        path = tmp_path / f"{statement}.db"
        if version is not None:
            shutil.copy(old, path)
        killed = _migrate_killed_at(path, statement)
        assert killed.returncode == -9, killed.stderr
        with sqlite3.connect(path) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if tables else None
            assert (found[0] if found else None) in (version, NEWEST)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with FeedbackStore.open(str(path)) as store:
            project = ranking_project(store, count=1, name="new")
            (person,) = annotators(store, project, 1)
            assert store.lease(project, person)
            assert len(store.projects()) == (1 if version is None else 2)
