"""The format of a file: named by the user, or detected from its first rows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from assent.data.examples import Format
from assent.data.message_trees import TREE_FORMAT
from assent.data.preference_formats import PREFERENCE_FORMATS
from assent.data.rows import SourceRow
from assent.data.single_formats import SINGLE_FORMATS
from assent.errors import ConfigError, DataError

FORMATS: tuple[Format, ...] = (TREE_FORMAT, *PREFERENCE_FORMATS, *SINGLE_FORMATS)
"""In the order in which they are tried: formats with more fields come first."""

_LOOK_AT = 100
_KNOWN_FIELDS = [
    "prompt", "chosen", "rejected", "completion", "response", "messages", "conversations", "instruction", "input",
    "output", "question", "answer", "completions", "ranks", "scores", "label", "text", "score",
]  # fmt: skip


def format_named(name: str) -> Format:
    """The format that `--format` names."""
    known = {format_.name: format_ for format_ in FORMATS}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'Did you mean "{near[0]}"? ' if near else ""
    raise ConfigError(f'there is no data format "{name}"', where="--format", now=f"{hint}Known: {', '.join(known)}.")


def format_of(row: SourceRow) -> Format | None:
    """The first format that fits one row."""
    return next((known for known in FORMATS if row.problem is None and known.matches(row.fields)), None)


def detect(rows: Sequence[SourceRow]) -> Format:
    """The format of the first rows. Two formats in one file raise an error that names a line of each.

    If the fields of a row are a part of another format's fields, it counts as an incomplete (or misspelt) row of that.
    """
    first: dict[str, tuple[Format, SourceRow]] = {}
    for row in rows[:_LOOK_AT]:
        found = format_of(row)
        if found is not None:
            first.setdefault(found.name, (found, row))
    if not first:
        raise _unknown(rows)
    found_here = list(first.values())
    whole = [pair for pair in found_here if not _is_part(pair, found_here)] or found_here
    if len(whole) > 1:
        (one, one_row), (other, other_row) = whole[:2]
        raise DataError(
            f"mixed formats: this row is {one.name}, and {other_row.place} is {other.name}",
            where=one_row.place,
            now="Split the file by format, or name one with --format and add --on-bad-row skip.",
        )
    return whole[0][0]


def is_meagre(format_: Format) -> bool:
    """Whether one field is enough for the format, so that its row may be an incomplete row of another format."""
    return format_.name in ("prompts", "text")


def _is_part(pair: tuple[Format, SourceRow], others: Sequence[tuple[Format, SourceRow]]) -> bool:
    names = pair[1].fields.keys()
    for other, row in others:
        shared = names & row.fields.keys()
        if names < row.fields.keys() or (is_meagre(pair[0]) and not is_meagre(other) and 2 * len(shared) >= len(names)):
            return True
    return False


def _unknown(rows: Sequence[SourceRow]) -> DataError:
    readable = next((row for row in rows if row.problem is None), None)
    if readable is None:
        return DataError(rows[0].problem or "the row cannot be read", where=rows[0].place, now="Repair the file.")
    names = [str(name) for name in readable.fields] or ["none"]
    near = [(name, match) for name in names for match in difflib.get_close_matches(name, _KNOWN_FIELDS, n=1)]
    typos = [f'"{match}" for "{name}"' for name, match in near if name != match]
    listed = ", ".join(names[:12]) or "none"
    hint = f" Did you mean {', '.join(typos)}?" if typos else ""
    return DataError(
        f"no known format has these fields: {listed}",
        where=readable.place,
        now="Name the columns, e.g. --set reading.prompt=COLUMN, or the format with --format (docs/data.md lists "
        f"all).{hint}",
    )
