"""Statements on one connection of the database, by name and compiled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import PoolProxiedConnection

from assent.feedback.refusals import NotFound

Row = tuple[Any, ...]
NO, YES = (sa.literal_column(flag, sa.Integer()) for flag in "01")  # as in the conditions of partial indexes
_IDS = 2**63


class Statement:
    """A statement of SQLAlchemy Core, compiled once per dialect and then run as text; binds are given by name."""

    def __init__(self, clause: sa.ClauseElement) -> None:
        self._clause = clause
        self._compiled: dict[str, tuple[str, dict[str, Any]]] = {}

    def compiled(self, dialect: sa.Dialect) -> tuple[str, dict[str, Any]]:
        """The SQL and the values of the binds that have one already."""
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = self._clause.compile(dialect=dialect)
            fixed = {name: value for name, value in (compiled.params or {}).items() if value is not None}
            found = self._compiled[dialect.name] = (str(compiled), fixed)
        return found


def insert(table: sa.Table) -> Statement:
    """An INSERT of all columns of `table`."""
    return Statement(table.insert().values({column.name: sa.bindparam(column.name) for column in table.columns}))


def change(table: sa.Table, *where: sa.ColumnElement[bool] | sa.TextClause, **values: Any) -> Statement:
    """An UPDATE of the rows that fit `where`."""
    return Statement(table.update().where(*where).values(values))


class Session:
    """Statements on one connection."""

    def __init__(self, connection: PoolProxiedConnection | DBAPIConnection, dialect: sa.Dialect) -> None:
        self._cursor = connection.cursor()
        self.dialect = dialect
        self._careful = dialect.name != "sqlite"
        self.writes = 0

    def rows(self, statement: Statement, **values: Any) -> list[Row]:
        """Every row of the answer."""
        self._execute(statement, values)
        return list(self._cursor.fetchall())

    def first(self, statement: Statement, **values: Any) -> Row | None:
        """The first row of the answer, if there is one. All are fetched: an open answer would hold the log's end."""
        found = self.rows(statement, **values)
        return found[0] if found else None

    def run(self, statement: Statement, **values: Any) -> int:
        """Change something; how many rows it was."""
        self.writes += 1
        self._execute(statement, values)
        return self._cursor.rowcount

    def run_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> None:
        """Change something once for each mapping of values."""
        if not values:
            return
        self.writes += 1
        sql, fixed = statement.compiled(self.dialect)
        rows = [{**fixed, **row} for row in values] if fixed else list(values)
        self._cursor.executemany(sql, rows)

    def _execute(self, statement: Statement, values: dict[str, Any]) -> None:
        sql, fixed = statement.compiled(self.dialect)
        if self._careful:
            _refuse_what_no_column_holds(values)
        try:
            self._cursor.execute(sql, {**fixed, **values} if fixed else values)
        except (OverflowError, UnicodeEncodeError):
            raise _nothing_like_it("value") from None


def _refuse_what_no_column_holds(values: Mapping[str, Any]) -> None:
    """PostgreSQL takes the whole transaction back over such a value; SQLite refuses it alone, or holds it."""
    for name, value in values.items():
        if (type(value) is int and not -_IDS <= value < _IDS) or (type(value) is str and "\0" in value):
            raise _nothing_like_it(name)


def _nothing_like_it(name: str) -> NotFound:
    """Refuses what no column can hold before a database fails over it, each in its own way."""
    return NotFound("no such value can be in the store", where=name, now="Check what was sent.")
