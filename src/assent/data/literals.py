"""Lists written as text: JSON, or a Python list as pandas writes it. A table cannot hold messages otherwise."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeGuard

from assent.errors import DataError

_LIST = re.compile(r"""\s*(?:\[\s*(?:[\[{"'\d-]|\])|\{\s*["'}])""")
_MESSAGES = re.compile(r"""\s*\[?\s*\{\s*["'](?:role|content|from|value)["']\s*:""")
_MOST_BRACKETS = 20_000
_MAY_SPELL = ("messages", "conversations", "conversation", "prompt", "completion", "chosen", "rejected")

_TEXT = re.compile(
    r"(?:prompt|question|query|instruction|context|input|completion|response|output|answer|target|reply|candidate"
    r"|generation|demonstration|summary|human_ref|chosen|rejected|better|worse|preferred|dispreferred|text|system)"
    r"(?:[ _.-]?[0-9a-k]|_response|_prompt)?",
    re.IGNORECASE,
)
"""Columns of text: a list there may be the answer itself, so only messages are parsed."""

_QUESTION_OBJECTS = ("full_text", "problem")  # of WebGPT and PRM800K
_LISTS_OF_TEXTS = ("chosen", "rejected", "completions", "responses", "answers", "outputs", "generations", "candidates")


def parse_row(cells: Mapping[str, str]) -> dict[str, Any]:
    """The cells of a row of a table without types.

    Two columns together may be lists: `chosen` and `rejected` if both are lists of one text or Python lists (a data
    frame held lists; JSON of several texts may be the answer itself), and `text` if `score` is a list.
    """
    fields = {name: parse_cell(cell, name) for name, cell in cells.items()}
    sides = {name: texts for name in ("chosen", "rejected") if (texts := _one_side(cells.get(name, "")))}
    if len(sides) == 2:
        fields |= sides
    if isinstance(fields.get("score"), list) and isinstance(texts := _spelled(cells.get("text", "")), list):
        fields["text"] = texts
    return fields


def parse_cell(cell: str, name: str) -> Any:
    """A cell of a table without types: the list or object that it spells, else its text.

    In a column of text, only messages are parsed. Raises DataError for messages that are neither JSON nor Python, and
    for a list of answers without commas, so that neither is trained on as text.
    """
    if not _LIST.match(cell):
        return cell
    if name in _LISTS_OF_TEXTS and _is_printed_by_numpy(cell):
        raise DataError(f'field "{name}": a list as NumPy prints it, without commas; write it as JSON')
    value = _spelled(cell)
    if value is None and _MESSAGES.match(cell):
        raise DataError(
            f'field "{name}": the text begins like a list of messages but is neither JSON nor a Python list'
        )
    return cell if value is None or (_TEXT.fullmatch(name) and not _is_no_text(value)) else value


def is_texts(value: object) -> TypeGuard[list[str]]:
    """Whether this is a list of texts, and not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def is_message(value: object) -> bool:
    """Whether this has the form of a message: an object with a role (or `from`)."""
    return isinstance(value, Mapping) and bool({"role", "from"} & value.keys())


def parse_texts(cell: object) -> list[str] | None:
    """The texts that a text spells as a list; None for everything else."""
    value = _spelled(cell) if isinstance(cell, str) and _LIST.match(cell) else None
    return value if is_texts(value) else None


def _one_side(cell: str) -> list[str] | None:
    """The texts of a list of one text, or of a list that only Python reads."""
    texts = parse_texts(cell)
    if texts is None or len(texts) == 1:
        return texts
    try:
        json.loads(cell)
    except (ValueError, RecursionError):
        return texts
    return None


def _is_no_text(value: object) -> bool:
    """Whether this is a list of messages, one message, or a question object."""
    if isinstance(value, Mapping):
        return is_message(value) or any(name in value for name in _QUESTION_OBJECTS)
    return isinstance(value, list) and bool(value) and all(is_message(one) for one in value)


def _is_printed_by_numpy(cell: str) -> bool:
    """Whether two quoted texts are neighbours; Python would join them into one."""
    try:
        tokens = [one.type for one in tokenize.generate_tokens(io.StringIO(cell).readline) if one.type != tokenize.NL]
    except (tokenize.TokenError, SyntaxError):
        return False
    return (tokenize.STRING, tokenize.STRING) in pairwise(tokens)


def parse_messages(cell: str) -> list[Any] | None:
    """The messages that a text spells as a whole; None for every other text."""
    value = _spelled(cell) if _MESSAGES.match(cell) else None
    return value if isinstance(value, list) and all(is_message(one) for one in value) else None


def with_parsed_messages(fields: dict[str, Any]) -> dict[str, Any]:
    """The row with the messages that its columns of messages spell as text."""
    spelled = {
        name: value
        for name in _MAY_SPELL
        if isinstance(fields.get(name), str) and (value := parse_messages(fields[name])) is not None
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
        raise ValueError("JSON would have read it, or it is not a row of a table")
    with warnings.catch_warnings(action="ignore"):  # about backslashes in text that is not a list
        return ast.literal_eval(text)
