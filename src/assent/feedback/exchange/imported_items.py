"""What an import is before it enters a store: items with answers, read row by row; a bad row has its line and field."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from assent.errors import DataError
from assent.feedback.records import MOST_COMPLETIONS, EventKind, NewItem, conversation_to_json

TOOLS_LEFT_OUT = "prompts without their tools"
CALLS_AS_TEXT = "prompts with tool calls as text, without names and ids"

_SHOWN_BAD_ROWS = 5
_REPEATED = "equal to another of the same person"
_OR_DROP = "or import the items alone with --set answers=drop."
_NONE_KEPT = f"Nothing was imported. Name the completions with --set completions, {_OR_DROP}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRow:
    """A row of a file: where it stands, its fields, or why it could not be read."""

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportLimits:
    """More than this is no import but an accident or an attack."""

    rows: int = 1_000_000
    characters: int = 200_000  # of one text
    messages: int = 1000  # of one prompt
    completions: int = MOST_COMPLETIONS
    answers: int = 1000  # to one item


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAnswer:
    """Somebody's answer to an imported item; `payload` is in canonical order, `who` the name they had there."""

    who: str
    kind: EventKind
    payload: Mapping[str, Any]
    time_taken_ms: int = 0


def answer_of_model(preference: Mapping[str, Any]) -> ImportedAnswer:
    """A model's preference, with the name of the model, as its answer."""
    return ImportedAnswer(who=f"model {preference['model']}", kind=EventKind.MODEL_PREFERENCE, payload=preference)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedItem:
    """An item with the answers it came with; `left_out` names what somebody said of it that is no answer here.

    `altered` names what is kept in another form than it had, or not at all.
    """

    item: NewItem
    answers: tuple[ImportedAnswer, ...] = ()
    skipped: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """All of a file: items (each once), rows set aside with their reasons, and remarks for people."""

    imported: tuple[ImportedItem, ...]
    bad: tuple[tuple[ImportRow, str], ...] = ()
    notes: tuple[str, ...] = ()


def collect(
    rows: Iterable[ImportRow],
    read: Callable[[Mapping[str, Any], ImportLimits], ImportedItem],
    *,
    limits: ImportLimits = ImportLimits(),
    on_bad_row: Literal["stop", "skip"] = "stop",
    answers_wanted: bool = True,
) -> Collected:
    """Read every row before anything is kept. Bad rows stop the import with a list of them, or are set aside.

    Annotations of which not one can be kept are an error, unless no answers are wanted.

    Rows with the same prompt and completions (or the same key) are one item with the answers of all.
    """
    found: list[ImportedItem] = []
    bad: list[tuple[ImportRow, str]] = []
    lost: list[tuple[str, str]] = []  # places and reasons
    for number, row in enumerate(rows, start=1):
        if number > limits.rows:
            raise DataError(f"there are more than {limits.rows:,} rows", where=row.place, now="Import it in parts.")
        try:
            if row.problem is not None:
                raise DataError(row.problem)
            found.append(with_key(read(row.fields, limits)))
            lost += [(row.place, reason) for reason in found[-1].skipped]
        except DataError as error:
            bad.append((row, error.what))
    if bad and (on_bad_row == "stop" or not found):
        raise _refusal(bad)
    if not found:
        raise DataError("there is nothing to import", now="Give a file with at least one row.")
    merged = merge(found, limits)
    notes = [f"{len(bad)} bad rows set aside"] if bad else []
    if len(merged) < len(found):
        notes.append(f"{len(found)} rows are {len(merged)} different items")
    if lost and answers_wanted and not any(one.answers for one in found):
        what = f"none of the annotations can be read: {_counted([reason for _, reason in lost])}"
        raise DataError(what, where=lost[0][0], now=_NONE_KEPT)
    return Collected(imported=merged, bad=tuple(bad), notes=(*notes, *import_notes(merged)))


def import_notes(imported: Sequence[ImportedItem]) -> tuple[str, ...]:
    """Sentences that count, by reason, what was left out and what was altered; none where nothing was."""
    skipped = [reason for one in imported for reason in one.skipped]
    altered = [reason for one in imported for reason in one.altered]
    told = (
        f"{len(skipped)} annotations were left out: {_counted(skipped)}" if skipped else "",
        f"not kept as in the file: {_counted(altered)}" if altered else "",
    )
    return tuple(note for note in told if note)


def _counted(reasons: Sequence[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(reasons).most_common(_SHOWN_BAD_ROWS))


def with_key(imported: ImportedItem) -> ImportedItem:
    """The item with a key made of what it asks, unless it has one."""
    item = imported.item
    if item.key:
        return imported
    asked = [conversation_to_json(item.prompt), [candidate.text for candidate in item.candidates]]
    digest = hashlib.blake2b(json.dumps(asked).encode(), digest_size=12).hexdigest()
    return replace(imported, item=replace(item, key=f"import-{digest}"))


def merge(found: Sequence[ImportedItem], limits: ImportLimits) -> tuple[ImportedItem, ...]:
    """Items by key in the order of their first rows; equal answers of one person are one, others get a name each."""
    together: dict[str, ImportedItem] = {}
    for one in found:
        before = together.get(one.item.key, replace(one, answers=(), skipped=(), altered=()))
        answers = _named(before.answers, one.answers)
        repeated = len(before.answers) + len(one.answers) - len(answers)
        skipped = (*before.skipped, *one.skipped, *(_REPEATED,) * repeated)
        altered = (*before.altered, *one.altered)
        together[one.item.key] = replace(before, answers=answers, skipped=skipped, altered=altered)
    for one in together.values():
        if len(one.answers) > limits.answers:
            what = f"an item has {len(one.answers)} answers, at most {limits.answers} can be kept"
            raise DataError(what, where=f"item {one.item.key[:60]}")
    return tuple(together.values())


def _named(before: tuple[ImportedAnswer, ...], more: Sequence[ImportedAnswer]) -> tuple[ImportedAnswer, ...]:
    kept = list(before)
    for answer in more:
        same = [one for one in kept if one.kind is answer.kind and one.who.split(" #")[0] == answer.who]
        if not any(one.payload == answer.payload for one in same):
            kept.append(replace(answer, who=f"{answer.who} #{len(same) + 1}") if same else answer)
    return tuple(kept)


def _refusal(bad: Sequence[tuple[ImportRow, str]]) -> DataError:
    if len(bad) == 1:
        row, reason = bad[0]
        return DataError(reason, where=row.place, now="Nothing was imported. Repair the row, or --on-bad-row skip.")
    told = [f"  {row.place}: {reason}" for row, reason in bad[:_SHOWN_BAD_ROWS]]
    more = [f"  and {len(bad) - _SHOWN_BAD_ROWS} more"] if len(bad) > _SHOWN_BAD_ROWS else []
    listed = "\n".join([f"{len(bad)} rows are bad", *told, *more])
    return DataError(listed, now="Nothing was imported. Repair the rows, or set them aside with --on-bad-row skip.")
