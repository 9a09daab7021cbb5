"""The files of suites: each file goes to every suite named whose columns it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assent.data.files import SourceFile, read_file
from assent.errors import ConfigError, DataError
from assent.evals.suites.suite import Asked, Form, Item, Row, Suite
from assent.evals.suites.table import SUITES
from assent.recipes.run.inputs import Files
from assent.recipes.run.progress import Display
from assent.runs.lineage import DataSource, named


@dataclass(frozen=True, slots=True, kw_only=True)
class Suites:
    """The suites with their items, and the files that they were read from."""

    asked: tuple[Asked, ...]
    sources: tuple[DataSource, ...]


def suites_named(names: Sequence[str]) -> list[Suite]:
    """The suites of these names; ConfigError for none, and for a name that is none."""
    if not names:
        raise ConfigError("which suite?", where="--suite", now=f"Suites: {', '.join(SUITES)}.")
    if unknown := next((name for name in names if name not in SUITES), None):
        raise ConfigError("there is no such suite", where=f"--suite {unknown}", now=f"Suites: {', '.join(SUITES)}.")
    return [SUITES[name] for name in dict.fromkeys(names)]


def read_suites(suites: Sequence[Suite], files: Files, display: Display, *, limit: int | None) -> Suites:
    """Read all files. DataError for one that no suite reads, ConfigError for a suite without one.

    `limit` takes the first items of each file.
    """
    items: dict[str, list[Item]] = {suite.name: [] for suite in suites}
    read_by: dict[str, list[DataSource]] = {suite.name: [] for suite in suites}
    sources = []
    for path in files.data:
        file = read_file(path)
        rows, bad = _rows(file)
        if bad and files.on_bad_row == "stop":
            raise DataError(bad[0], now="Give --on-bad-row skip to leave such rows out.")
        source = DataSource(role="suite", name=Path(file.path).name, sha256=file.sha256, rows=len(rows))
        sources.append(source)
        for suite, form in _readers(suites, rows, file.path):
            found, left_out = _items(form, rows, skip=files.on_bad_row == "skip")
            found = found[:limit]
            items[suite.name] += found
            read_by[suite.name].append(source)
            told = f"; left out, as bad rows: {left_out + len(bad)}" if left_out or bad else ""
            display.say(f"{suite.name}: {len(found)} items from {file.path}{told}")
    for suite in suites:
        if not items[suite.name]:
            what = "no file is this suite's" if not read_by[suite.name] else "its files hold no item"
            columns = " or ".join(", ".join(form.columns) for form in suite.forms)
            raise ConfigError(what, where=f"--suite {suite.name}", now=f"Name one with --data. Its columns: {columns}.")
    first = f", first {limit} of each file" if limit else ""
    return Suites(
        asked=tuple(
            Asked(suite=suite, items=tuple(items[suite.name]),
                  data=", ".join(map(named, read_by[suite.name])) + first)
            for suite in suites
        ),
        sources=tuple(sources),
    )  # fmt: skip


def _rows(file: SourceFile) -> tuple[list[Row], list[str]]:
    """Rows that can be read, and what is wrong with the others."""
    rows = [Row(place=row.place, fields=row.fields) for row in file.rows if not row.problem]
    return rows, [f"{row.place}: {row.problem}" for row in file.rows if row.problem]


def _readers(suites: Sequence[Suite], rows: Sequence[Row], path: str) -> list[tuple[Suite, Form]]:
    """The suites that read the file, but none that needs only some of the columns that another one needs."""
    first = rows[0] if rows else Row(place=path, fields={})
    found = [(suite, form) for suite in suites if (form := suite.form_of(first)) is not None]
    found = [one for one in found if not any(set(one[1].columns) < set(form.columns) for _, form in found)]
    if not found:
        lacks = "; ".join(f"{suite.name} needs {suite.missing_in(first)}" for suite in suites)
        has = ", ".join(first.fields) or "nothing"
        raise DataError(f"no suite named reads this file: {lacks}", where=path, now=f"It has the columns {has}.")
    return found


def _items(form: Form, rows: Sequence[Row], *, skip: bool) -> tuple[list[Item], int]:
    """The items, and how many rows were left out."""
    if not skip:
        return form.read(rows), 0
    good = [row for row in rows if _reads(form, row)]
    return form.read(good), len(rows) - len(good)


def _reads(form: Form, row: Row) -> bool:
    try:
        form.read([row])
    except DataError:
        return False
    return True
