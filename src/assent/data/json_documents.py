"""A parsed JSON document to rows: a list, columns, a list under one name, or questions under topics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assent.data.literals import is_message, with_parsed_messages
from assent.data.rows import SourceRow, kind_of
from assent.errors import DataError

# usual names of columns; a tree of topics has other names
_COLUMNS = frozenset([
    "prompt", "prompts", "chosen", "rejected", "completion", "completions", "response", "responses", "messages",
    "conversations", "instruction", "instructions", "input", "inputs", "output", "outputs", "text", "texts", "label",
    "labels", "question", "questions", "answer", "answers", "score", "scores", "ranks",
])  # fmt: skip
_HOLDERS = ("data", "rows", "examples", "train")


def json_rows(tree: Any, name: str) -> Iterator[SourceRow]:
    """Rows of a JSON document; `name` is the file, for messages."""
    items = _items(tree, name)
    if items is None:
        raise DataError(
            f"expected a list of rows, columns or topics with questions, got {kind_of(tree)}",
            where=name,
            now="Write a list of objects, or one JSON object per line.",
        )
    for number, item in enumerate(items, start=1):
        yield json_row(item, f"{name}: item {number}", number)


def json_row(value: Any, place: str, number: int) -> SourceRow:
    """The row of one JSON value, which is an object or a text."""
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        return SourceRow(place=place, number=number, problem=f"expected a JSON object, got {kind_of(value)}")
    return SourceRow(place=place, number=number, fields=with_parsed_messages(value))


def _items(tree: Any, name: str) -> list[Any] | None:
    if isinstance(tree, list):
        return tree
    if not isinstance(tree, dict) or not tree:
        return None
    splits = [str(key) for key, value in tree.items() if _is_objects(value)]
    if len(splits) == len(tree) > 1 and not _COLUMNS & tree.keys():
        now = "Write the one that is meant into a file of its own."
        raise DataError(f"the file holds several lists of rows: {', '.join(splits[:8])}", where=name, now=now)
    if all(key.isdecimal() and isinstance(row, dict) for key, row in tree.items()):
        return list(tree.values())
    for holder in _HOLDERS:
        held = tree.get(holder)
        if isinstance(held, list) and (len(tree) == 1 or _is_held_beside(tree, holder)):
            columns = tree.get("columns")
            if not isinstance(columns, list):
                return held
            # a row of another width stays a list, and is a bad row
            return [dict(zip(columns, row, strict=True)) if len(row) == len(columns) else row for row in held]
    if _COLUMNS & {str(key).lower() for key in tree}:
        return _column_rows(tree)
    leaves = list(_topic_rows(tree, ()))
    return leaves if leaves and all(leaf is not None for leaf in leaves) else None


def _is_held_beside(tree: Mapping[str, Any], holder: str) -> bool:
    """Whether a list holds rows, and what stands beside it describes it: a version, a schema, the names of columns."""
    rows = tree[holder]
    described = isinstance(tree.get("columns"), list) and all(isinstance(row, list) for row in rows)
    return (described or _is_objects(rows)) and not _COLUMNS & tree.keys() and sum(map(_is_objects, tree.values())) < 2


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _column_rows(tree: Mapping[str, Any]) -> list[Any]:
    """Columns of equal length (empty ones are left out), as lists or by index; anything else is one row."""
    indexed = [list(value) for value in tree.values() if isinstance(value, dict)]
    numbered = bool(indexed) and bool(indexed[0]) and all(key.isdecimal() for key in indexed[0])
    if numbered and len(indexed) == len(tree) and all(index == indexed[0] for index in indexed):
        tree = {name: list(column.values()) for name, column in tree.items()}
    columns = {key: value for key, value in tree.items() if isinstance(value, list) and value}
    lengths = {len(column) for column in columns.values()}
    plain = all(isinstance(value, list) for value in tree.values()) and not _is_one_row(columns)
    if not plain or len(lengths) != 1:
        return [dict(tree)]
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _is_one_row(columns: Mapping[str, list[Any]]) -> bool:
    """A single row whose every field is a list: of messages, or a list of texts with its list of scores."""
    if {"text", "score"} <= columns.keys():
        return all(isinstance(cell, str) for cell in columns["text"])
    return all(is_message(cell) for column in columns.values() for cell in column)


def _topic_rows(tree: Any, topics: tuple[str, ...]) -> Iterator[dict[str, str] | None]:
    """Questions under nested topics; None marks something that is no such tree."""
    if isinstance(tree, dict) and len(topics) < 8:
        for topic, below in tree.items():
            yield from _topic_rows(below, (*topics, str(topic)))
    elif isinstance(tree, list) and topics:
        for question in tree:
            yield {"prompt": question, "topic": " / ".join(topics)} if isinstance(question, str) else None
    else:
        yield None
