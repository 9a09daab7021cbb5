"""A project's annotations as a file: the format says what a row holds, the file's ending how rows are kept."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assent.errors import ConfigError
from assent.feedback.annotation_source import AnnotationSource, all_answered, all_events
from assent.feedback.exchange.aggregation import Aggregation
from assent.feedback.exchange.export_files import write_rows
from assent.feedback.exchange.export_rows import ROW_FORMATS, Row, RowFormat, RowOptions
from assent.types import Conversation, Role


def plain_text(conversation: Conversation) -> str:
    """One user message as it is; anything longer with a name before each turn."""
    messages = conversation.messages
    if len(messages) == 1 and messages[0].role is Role.USER:
        return messages[0].content
    names = {Role.USER: "Human", Role.ASSISTANT: "Assistant", Role.SYSTEM: "System", Role.TOOL: "Tool"}
    return "".join(f"\n\n{names[message.role]}: {message.content}" for message in messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is exported: see `ROW_FORMATS` for the formats. Model names stay out unless `models` is set."""

    format: str = "pairs"
    aggregation: Aggregation = field(default_factory=Aggregation)
    models: bool = False
    as_text: Callable[[Conversation], str] = plain_text


def export(source: AnnotationSource, project_id: int, path: Path, options: ExportOptions) -> int:
    """Write the project's annotations to `path`, streaming, and return the number of rows.

    Memory stays the same however many answers there are. Twice the same store gives twice the same bytes.
    Raises ConfigError for an unknown format or ending, StoreError if there is nothing to write or no room to write it.
    """
    format_ = row_format(options.format)
    rows = export_rows(source, project_id, options)
    return write_rows(path, rows, format_.header(models=options.models))


def export_rows(source: AnnotationSource, project_id: int, options: ExportOptions) -> Iterator[Row]:
    """The rows alone, in the order of items (of events, for the format "events")."""
    format_ = row_format(options.format)
    project = source.project(project_id)
    if format_.from_events is not None:
        yield from map(format_.from_events, all_events(source, project.id))
        return
    assert format_.rows is not None
    aggregation = RowOptions(aggregation=options.aggregation, models=options.models, as_text=options.as_text)
    for answered in all_answered(source, project.id):
        yield from format_.rows(answered, aggregation)


def row_format(name: str) -> RowFormat:
    """The format of that name; ConfigError names the nearest otherwise."""
    if name in ROW_FORMATS:
        return ROW_FORMATS[name]
    near: list[Any] = difflib.get_close_matches(name, ROW_FORMATS, n=1)
    hint = f'Did you mean "{near[0]}"? ' if near else ""
    raise ConfigError(
        f'there is no export format "{name}"', where="--format", now=f"{hint}Known: {', '.join(ROW_FORMATS)}."
    )
