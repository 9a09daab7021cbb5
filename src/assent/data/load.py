"""From files to the vocabulary: one function per kind of example."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from assent.data import convert
from assent.data.columns import Columns, TrackedFields, fields_of, is_context_column, is_label_column
from assent.data.examples import Example, Format, Kind
from assent.data.files import SourceFile, TextRows, read_file
from assent.data.formats import detect, format_named, format_of, is_meagre
from assent.data.labels import check_labels, with_scores
from assent.data.message_notes import message_notes
from assent.data.message_trees import assemble_trees
from assent.data.provenance import with_provenance
from assent.data.rows import SourceRow, tools_of
from assent.errors import DataError
from assent.types import Comparison, Conversation, Demonstration, Ranking, Rating, RewardedDialogue

T = TypeVar("T", bound=Hashable)
Source = str | Path | SourceFile
"""A file, a folder, or rows in memory."""

BadRow = tuple[SourceRow, str]

_BY_THEIR_NAMES = Columns()
_LOOK_AT = 100
_WEIGHTS = ("weight", "sample_weight")
_NAME_HINT = "Name another column with --set reading.NAME=COLUMN, or give --on-bad-row skip to set such rows aside."
_SKIP_HINT = "Give --on-bad-row skip to set such rows aside."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How a file is read.

    `format` is detected if None. A bad row raises DataError, or is skipped, counted and written to `bad_rows_to`.
    `limit` takes only the first examples. `positive_labels` names the good labels if they are not well-known words; the
    others are bad or, if `negative_labels` names the bad ones, left out. `keep_ties` keeps ties as probability 0.5.
    `margin_per_score` turns a difference of scores into a margin in reward units; 0 means no margins. `columns` gives
    the file's names for columns.
    """

    format: str | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    bad_rows_to: Path | None = None
    limit: int | None = None
    positive_labels: tuple[str, ...] = ()
    negative_labels: tuple[str, ...] = ()
    keep_ties: bool = True
    margin_per_score: float = 0.0
    columns: Columns = _BY_THEIR_NAMES


_DEFAULT = ReadOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Generic[T]):
    """Examples of one file with their lineage. `sha256` is of the bytes on disk; `notes` are for people.

    `bad` are the skipped rows, `unread` the columns that look like labels and were not used.
    """

    examples: tuple[T, ...]
    format: str
    sha256: str
    path: str
    bad: tuple[BadRow, ...] = ()
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def bad_rows(self) -> int:
        """How many rows were skipped."""
        return len(self.bad)


def load_demonstrations(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[Demonstration]:
    """Conversations to imitate; from labelled completions, the chosen ones."""
    return _load(source, options, Kind.DEMONSTRATIONS, convert.demonstrations)


def load_comparisons(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[Comparison]:
    """Pairs; from rankings and scores, all pairs of a prompt under one `group`."""

    def pairs(examples: Sequence[Example]) -> list[Comparison]:
        return convert.comparisons(examples, keep_ties=options.keep_ties, margin_per_score=options.margin_per_score)

    return _load(source, options, Kind.COMPARISONS, pairs)


def load_rankings(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[Ranking]:
    """Rankings of K completions; from pairs, rankings of two."""
    return _load(source, options, Kind.RANKINGS, convert.rankings)


def load_ratings(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[Rating]:
    """Scored completions; labels as 1.0 (good) and 0.0. Texts labelled on their own have an empty prompt."""
    return _load(source, options, Kind.RATINGS, convert.ratings)


def load_labels(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[Rating]:
    """Ratings that are labels, from 0.0 (bad) to 1.0 (good); scores on another scale are a DataError."""
    data = load_ratings(source, options)
    check_labels(data.examples, data.path)
    return data


def load_dialogues(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[RewardedDialogue]:
    """Logged conversations with rewards; judged completions as dialogues of one turn (see `convert.dialogues`)."""
    return _load(source, options, Kind.DIALOGUES, convert.dialogues)


def load_prompts(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[Conversation]:
    """Prompts with the columns of their rows; from files with answers, each distinct prompt once.

    A .txt file has one prompt per line.
    """
    return _load(source, options, Kind.PROMPTS, convert.prompts)


def load_texts(source: Source, options: ReadOptions = _DEFAULT) -> Dataset[str]:
    """Documents for pretraining. A .txt file is one document; conversations become transcripts."""
    return _load(source, options, Kind.TEXTS, convert.texts)


def kind_of_file(path: str | Path, options: ReadOptions = _DEFAULT) -> Kind:
    """What a file holds before any conversion; this only looks at the names of the fields."""
    return _rows_and_format(read_file(path), options)[1].kind


def _rows_and_format(source: SourceFile, options: ReadOptions) -> tuple[tuple[SourceRow, ...], Format]:
    rows = options.columns.applied(assemble_trees(source.rows), source.path)
    return rows, format_named(options.format) if options.format else detect(rows)


def _load(
    given: Source, options: ReadOptions, wanted: Kind, conversion: Callable[[Sequence[Example]], list[T]]
) -> Dataset[T]:
    text_rows: TextRows = "lines" if wanted is Kind.PROMPTS else "document"
    source = given if isinstance(given, SourceFile) else read_file(given, text_rows=text_rows)
    rows, format_ = _rows_and_format(source, options)
    weightless = [any(_is_weight_of(row, name, 0) for name in _WEIGHTS) for row in rows]
    weighty = rows if wanted is Kind.PROMPTS else [row for row, none in zip(rows, weightless, strict=True) if not none]
    if not weighty:
        raise DataError("all rows have the weight 0", where=source.path, now="Give rows to train on.")
    examples, bad, unread, beside = _read_rows(weighty, format_, options, wanted)
    if options.bad_rows_to is not None and bad:
        write_bad_rows(bad, options.bad_rows_to)
    if not examples:
        row, reason = bad[0]
        now = _format_hint(row, format_)
        raise DataError(f"all {len(bad)} rows are bad; the first: {reason}", where=row.place, now=now)
    if wanted not in (Kind.PROMPTS, Kind.TEXTS):
        examples = with_scores(examples, options.positive_labels, options.negative_labels, source.path)
    made = conversion(examples)
    if not made:
        raise _nothing_made(format_, wanted, rows, source.path)
    return Dataset(
        examples=tuple(made[: options.limit]),
        format=format_.name,
        sha256=source.sha256,
        path=source.path,
        bad=tuple(bad),
        unread=unread,
        notes=(
            *_notes(examples, made, bad, unread, wanted, format_),
            *([f"not read, though it may belong to the prompt or the answer: {', '.join(beside)}"] if beside else ()),
            *([f"{len(rows) - len(weighty)} rows of weight 0 are left out"] if len(weighty) < len(rows) else ()),
            *message_notes(weighty, examples),
        ),
    )


def _nothing_made(format_: Format, wanted: Kind, rows: Sequence[SourceRow], place: str) -> DataError:
    error = convert.cannot(format_.kind, wanted, format_.name)
    readable = [row for row in rows if row.problem is None]
    half = {"chosen", "rejected"} & readable[0].fields.keys()
    listed = fields_of(readable, *({"chosen", "rejected"} - half if len(half) == 1 else ()))
    if len(half) == 1:
        missing = f'A pair has "chosen" and "rejected"; these rows have only "{half.pop()}".'
        return DataError(error.what, where=place, now=f"{missing} {listed}")
    return DataError(error.what, where=place, now=f"{listed} {error.now}")


def _read_rows(
    rows: Sequence[SourceRow], format_: Format, options: ReadOptions, wanted: Kind
) -> tuple[list[Example], list[BadRow], tuple[str, ...], tuple[str, ...]]:
    """Examples, bad rows, and unread columns of the first rows: those like labels, and those like context.

    Prompts keep all columns, for reward functions.
    """
    read = format_.reader(wanted)
    examples: list[Example] = []
    bad: list[BadRow] = []
    unread: dict[str, None] = {}
    beside: dict[str, None] = {}
    for place, row in enumerate(rows):
        try:
            if row.problem is not None:
                raise DataError(row.problem)
            watched = TrackedFields(row.fields) if place < _LOOK_AT else None
            fields = watched if watched is not None else row.fields
            found = with_provenance(convert.with_tools(read(fields), tools_of(fields)), fields)
            if watched is not None:
                names = watched.unread()
                unread.update(dict.fromkeys(filter(is_label_column, names if wanted is not Kind.PROMPTS else ())))
                beside.update(
                    dict.fromkeys(name for name in names if is_context_column(name) and not _is_weight_of(row, name, 1))
                )
            if wanted is Kind.PROMPTS:
                found = [convert.with_columns(one, {**row.renamed, **row.fields}) for one in found]
            examples += found
        except DataError as error:
            reason = options.columns.with_file_names(_explained(error, row, format_))
            if options.on_bad_row == "stop":
                missing = f"{fields_of([row])} {_NAME_HINT}" if " is missing" in reason and row.fields else ""
                raise DataError(reason, where=row.place, now=missing or _SKIP_HINT) from error
            bad.append((row, reason))
    return examples, bad, tuple(unread), tuple(beside)


def _is_weight_of(row: SourceRow, name: str, weight: int) -> bool:
    return name in _WEIGHTS and str(row.fields.get(name)).strip() in (str(weight), f"{weight}.0", str(bool(weight)))


def _explained(error: DataError, row: SourceRow, format_: Format) -> str:
    """The row's error; it says so if the row has another format."""
    other = format_of(row)
    if other is None or is_meagre(other) or format_.matches(row.fields):
        return error.what
    return f"mixed formats: this row is {other.name}, the file is read as {format_.name} ({error.what})"


def _format_hint(row: SourceRow, format_: Format) -> str:
    other = format_of(row)
    if other is not None and other is not format_:
        return f"Did you mean --format {other.name}?"
    return f"{fields_of([row])} Repair the file, or name its --format or its columns (--set reading.NAME=COLUMN)."


def _notes(
    examples: list[Example], made: list[T], bad: list[BadRow], unread: Sequence[str], wanted: Kind, format_: Format
) -> tuple[str, ...]:
    double = len(examples) - len(set(examples))
    ties = sum(isinstance(one, Comparison) and one.probability == 0.5 for one in made)
    criteria = sorted({one.criterion for one in examples if isinstance(one, Rating)})
    held = wanted if any(isinstance(one, RewardedDialogue) for one in examples) else format_.kind
    by_criterion = wanted != held and len(criteria) > 1
    compared = "each score is a reward, whatever its" if wanted is Kind.DIALOGUES else "compared separately by each"
    notes = [
        f"{len(bad)} bad rows skipped" if bad else "",
        f"{double} rows occur more than once (kept)" if double else "",
        f"{ties} of {len(made)} pairs are ties" if ties else "",
        f"{len(made)} {wanted.value} made from {len(examples)} {held.value}" if wanted != held else "",
        f"{compared} criterion: {', '.join(criteria)}" if by_criterion else "",
        f"not used, though it looks like a label: {', '.join(unread)}" if unread else "",
    ]
    return tuple(note for note in notes if note)


def write_bad_rows(bad: Sequence[BadRow], path: Path) -> None:
    """Write bad rows with their reasons, one JSON object each. The file is written whole or not at all."""
    lines = [
        json.dumps({"place": row.place, "line": row.number, "reason": reason, "row": dict(row.fields)}, default=str)
        for row, reason in bad
    ]
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise DataError(f"the bad rows cannot be written ({error.strerror})", where=str(path)) from error
