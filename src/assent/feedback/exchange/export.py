"""A project's annotations as a file: the format says what a row holds, the file's ending how rows are kept."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assent.errors import ConfigError
from assent.feedback.annotation_source import AnnotationSource, all_answered, all_events
from assent.feedback.exchange.export_files import write_rows
from assent.feedback.exchange.export_rows import ROW_FORMATS, ExportOptions, Row, RowFormat


def export(source: AnnotationSource, project_id: int, path: Path, options: ExportOptions) -> int:
    """Write the project's annotations to `path`, streaming, and return the number of rows.

    Memory stays the same however many answers there are. Twice the same store gives twice the same bytes.
    Raises ConfigError for an unknown format or ending, StoreError if there is nothing to write or no room to write it.
    """
    name = options.format
    if name not in ROW_FORMATS:
        near: list[Any] = difflib.get_close_matches(name, ROW_FORMATS, n=1)
        hint = f'Did you mean "{near[0]}"? ' if near else ""
        now = f"{hint}Known: {', '.join(ROW_FORMATS)}."
        raise ConfigError(f'there is no export format "{name}"', where="--format", now=now)
    found = ROW_FORMATS[name]
    return write_rows(path, _rows(source, project_id, found, options), found.header(models=options.models))


def _rows(source: AnnotationSource, project_id: int, found: RowFormat, options: ExportOptions) -> Iterator[Row]:
    """The rows in the order of items (of events, for the format "events")."""
    project = source.project(project_id)
    if found.from_events is not None:
        yield from map(found.from_events, all_events(source, project.id))
        return
    assert found.rows is not None
    for answered in all_answered(source, project.id):
        yield from found.rows(answered, options)
