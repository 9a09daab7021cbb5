"""Which column holds what: names given by the user, and columns that look like labels and were not read."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assent.config import Settings
from assent.data.literals import parse_cell
from assent.data.rows import Fields, SourceRow
from assent.errors import DataError

_SHOWN = 16
_FIELD = re.compile(r'field "(\w+)(?=["\[.])')
_MAY_BE_ABSENT = ("system", "tools", "margin", "annotator")
_JUDGEMENT = re.compile(
    r"(?:^|_)(?:labels?|scores?|scored|ranks?|ranking|ratings?|rated|votes?|voted|upvotes?|winner|loser|better|worse|safer"
    r"|best|worst|prefer\w*|chosen|rejected|choice|judge?ments?|judged|annotat\w+|verdict|thumbs|liked|dislik\w*|good|bad"
    r"|helpful\w*|harmless\w*|harmful\w*|honest\w*|truthful\w*|correct\w*|coherence|quality|is_safe|safe|unsafe|is_\w+_safe"
    r"|reward|grade|stars|feedback|toxic\w*|severity|harm|desirable|acceptable)(?:_|[0-9]|$)"
)
_ANSWER = re.compile(
    r"(?:^|_)(?:answers?|responses?|completions?|outputs?|replies|reply|generations?|demonstrations?|target)(?:_|[0-9]|$)"
)
_BESIDE = re.compile(
    r"system(?:_\w+)?|history|contexts?|inputs?|documents?|(?:\w+_)?weights?|chat_template_kwargs|functions"
    r"|reasoning\w*|thinking|thoughts?|cot|chain_of_thought|rationale"
    r"|completions|answers|responses|outputs|generations|candidates"
)
_ABOUT = re.compile(r"_(?:models?|policy|sources?|tokens|sha256|length)$")  # about a labelled answer, not a label


class Columns(Settings):
    """The file's names for the columns that we know under these names; empty: the file uses our names.

    A name with dots leads into objects and lists: "question.full_text", "answers.0".
    """

    prompt: str = ""
    system: str = ""
    messages: str = ""
    completion: str = ""
    completions: str = ""
    chosen: str = ""
    rejected: str = ""
    label: str = ""
    score: str = ""
    scores: str = ""
    ranks: str = ""
    margin: str = ""
    tools: str = ""
    text: str = ""
    annotator: str = ""

    def named(self) -> dict[str, str]:
        """Our name to the file's name, for the columns that have one."""
        return {ours: theirs for ours in Columns.model_fields if (theirs := getattr(self, ours))}

    def applied(self, rows: Sequence[SourceRow], place: str) -> tuple[SourceRow, ...]:
        """The rows under our names. DataError if no row has a column; a row that lacks one gets a problem."""
        named = self.named()
        if not named:
            return tuple(rows)
        readable = [row for row in rows if row.problem is None]
        for ours, theirs in named.items():
            if readable and not any(_found(row.fields, theirs) for row in readable):
                raise DataError(
                    f'no row has the field "{theirs}" (reading.{ours})', where=place, now=fields_of(readable, theirs)
                )
        return tuple(row if row.problem else _renamed(row, named) for row in rows)

    def with_file_names(self, what: str) -> str:
        """The error message with the file's names of the fields."""
        named = self.named()
        return _FIELD.sub(lambda found: f'field "{named.get(found[1], found[1])}', what)


def _renamed(row: SourceRow, named: Mapping[str, str]) -> SourceRow:
    values = {ours: _found(row.fields, theirs) for ours, theirs in named.items()}
    lacking = [ours for ours, value in values.items() if not value and ours not in _MAY_BE_ABSENT]
    if lacking:
        return replace(row, problem=f'field "{named[lacking[0]]}" is missing (reading.{lacking[0]})')
    moved = {*named.values(), *named}
    kept = {name: value for name, value in row.fields.items() if name not in moved}
    try:
        read = {
            ours: parse_cell(row.cells[named[ours]], ours) if named[ours] in row.cells else value[0]
            for ours, value in values.items()
            if value
        }
    except DataError as error:
        return replace(row, problem=error.what)
    renamed = {theirs: row.fields[theirs] for theirs in named.values() if theirs in row.fields}
    return replace(row, fields=kept | read, renamed=renamed)


def _found(fields_: Fields, name: str) -> tuple[Any, ...]:
    """A tuple with the value at a name or a dotted path; empty if there is none."""
    if name in fields_:
        return (fields_[name],)
    value: Any = fields_
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return ()
    return (value,)


def fields_of(rows: Sequence[SourceRow], *near: str) -> str:
    """A sentence that lists the fields of the first rows, and suggests those that resemble one of `near`."""
    names = list(dict.fromkeys(str(name) for row in rows[:_SHOWN] for name in row.fields))
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    close = [match for one in near for match in difflib.get_close_matches(one, names, n=1)]
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return f"The fields are: {listed or 'none'}.{hint}"


def is_label_column(name: str) -> bool:
    """Whether a column's name looks like a label: label, score_A, better_response_id, good_answer."""
    snake = _snake(name)
    return _JUDGEMENT.search(snake) is not None and _ABOUT.search(snake) is None


def is_context_column(name: str) -> bool:
    """Whether a column's name looks like a part of the prompt or the answer, or of how they are trained on."""
    return _BESIDE.fullmatch(_snake(name)) is not None


def is_answer_column(name: str) -> bool:
    """Whether a column's name looks like an answer: response_1, answer, modelOutput."""
    snake = _snake(name)
    return _ANSWER.search(snake) is not None and _ABOUT.search(snake) is None


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()


def has_value(value: object) -> bool:
    """Whether a cell holds anything: not null, not NaN (pandas' null), no empty text, list or object."""
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and value not in ("", [], {}, ())


def peek(fields_: Fields, name: str) -> Any:
    """A field's value, or None, without counting as read."""
    return fields_.hidden(name) if isinstance(fields_, TrackedFields) else fields_.get(name)


class TrackedFields(Mapping[str, Any]):
    """The fields of a row. It remembers which of them were read."""

    def __init__(self, fields_: Fields) -> None:
        self._fields, self._read = fields_, set[str]()

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return self._fields[name]

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def hidden(self, name: str) -> Any:
        """A value, without counting as read."""
        return self._fields.get(name)

    def unread(self) -> list[str]:
        """Columns that hold something and were not read."""
        return [str(name) for name, value in self._fields.items() if name not in self._read and has_value(value)]
