"""Bring a database to the newest schema, in one transaction: killed inside, it is still the old one."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from assent.errors import StoreError
from assent.feedback.store.engine import Database

NEWEST = "2"
_FOLDER = Path(__file__).parent / "migrations"


def version_of(connection: sa.Connection) -> str | None:
    """The schema's version, None of an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def migrate(database: Database, *, to: str = NEWEST) -> None:
    """Bring the schema to version `to`. Raises StoreError for one that this program does not know, Unavailable."""
    with database.translated(), database.writing.connect() as connection:
        found = version_of(connection)
        connection.rollback()
        if found == to:
            return
        _refuse_unknown(database, found)
        if database.sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        settings = Config()
        settings.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
        settings.attributes["connection"] = connection
        command.upgrade(settings, to)
        connection.commit()


def check(database: Database) -> None:
    """Refuse to read a schema that is not the newest; StoreError."""
    with database.translated(), database.reading.connect() as connection:
        found = version_of(connection)
    _refuse_unknown(database, found)
    if found != NEWEST:
        now = "Open it once for writing, for instance with `assent studio`."
        raise StoreError("there is no store, or one of an older version, to read", where=database.place, now=now)


def _refuse_unknown(database: Database, found: str | None) -> None:
    if found is not None and not (found.isdigit() and int(found) <= int(NEWEST)):
        what = f"the store has schema {found}, made by a newer assent; this one knows up to {NEWEST}"
        raise StoreError(what, where=database.place, now="Install the newer version.")
