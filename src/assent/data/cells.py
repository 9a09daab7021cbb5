"""Text that spells a list: JSON, or a Python list as pandas writes it. A table has no other way to hold messages."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from assent.errors import DataError

_LIST = re.compile(r"""\s*(?:\[\s*(?:[\[{"'\d-]|\])|\{\s*["'}])""")
_MESSAGES = re.compile(r"""\s*\[?\s*\{\s*["'](?:role|content|from|value)["']\s*:""")
_MOST_BRACKETS = 20_000
_MAY_SPELL = ("messages", "conversations", "conversation", "prompt", "completion", "chosen", "rejected")


def table_cell(cell: str, name: str) -> object:
    """A cell of a table without types: what it spells if that is a list or an object, else its text.

    Raises DataError for messages that are neither JSON nor Python, so that they are not learned as a text.
    """
    if not _LIST.match(cell):
        return cell
    value = _spelled(cell)
    if value is None and _MESSAGES.match(cell):
        raise DataError(
            f'field "{name}": the text begins like a list of messages, but is neither JSON nor a Python list'
        )
    return cell if value is None else value


def messages_spelled(cell: str) -> list[Any] | None:
    """The messages that a text spells as a whole; None for every other text."""
    value = _spelled(cell) if _MESSAGES.match(cell) else None
    whole = isinstance(value, list) and all(isinstance(one, Mapping) and {"role", "from"} & one.keys() for one in value)
    return value if whole else None


def with_messages_spelled(fields: dict[str, Any]) -> dict[str, Any]:
    """The row with the messages that its columns of messages spell as text."""
    spelled = {
        name: value
        for name in _MAY_SPELL
        if isinstance(fields.get(name), str) and (value := messages_spelled(fields[name])) is not None
    }
    return {**fields, **spelled} if spelled else fields


def _spelled(cell: str) -> Any:
    """The list or object that JSON or Python reads in the text, or None."""
    for read in (json.loads, _python):
        try:
            value = read(cell.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | dict):
            return value
    return None


def _python(text: str) -> Any:
    if "'" not in text or text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise ValueError("JSON would have read it, or it is no row of a table")
    with warnings.catch_warnings(action="ignore"):  # of backslashes in what is no list
        return ast.literal_eval(text)
