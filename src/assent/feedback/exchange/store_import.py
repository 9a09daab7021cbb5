"""ImportedItem items into a project, with their answers as those of people named after whoever gave them.

Everything is checked before anything is kept. Items enter by key and answers by idempotency key, so that an import that
was cut off is finished by running it again. Answers go the way of all answers: a lease, a submission, an event; they
are attributed to accounts that nobody can sign in to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from assent.errors import DataError, StoreError
from assent.feedback.annotation_source import all_items
from assent.feedback.exchange.imported_items import ImportedAnswer, ImportedItem
from assent.feedback.records import (
    MOST_COMPLETIONS,
    MOST_OVERLAP,
    STRONGEST,
    Answer,
    Event,
    EventKind,
    Item,
    Person,
    PersonRole,
    ProjectSettings,
    TaskMode,
)
from assent.feedback.store.payloads import canonical, dense
from assent.feedback.store.project_items import CANDIDATES_OF_MODE, KIND_OF_MODE
from assent.feedback.store.store import FeedbackStore

_FIRST = 1e15  # a priority before all others, while a person's imported answers are entered
_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import changed: items added and found there already, answers kept, people they came from."""

    added: int
    known: int
    answers: int = 0
    people: int = 0


def import_items(
    store: FeedbackStore, project_id: int, imported: Sequence[ImportedItem], *, as_controls: bool = False
) -> ImportResult:
    """Put items and their answers into the project; with `as_controls` the first answer makes the item a control item.

    Raises DataError for what the project's mode cannot take, before anything is written; StoreError.
    """
    settings = store.project(project_id).settings
    fitted = [_fitted(one, settings, as_controls=as_controls) for one in imported]
    added, known = store.add_items(project_id, [one.item for one in fitted])
    answered = {one.item.key: one for one in fitted if one.answers}
    if not answered:
        return ImportResult(added=added, known=known)
    items = {item.new.key: item for item in all_items(store, project_id) if item.new.key in answered}
    _put_back(store, project_id, items, answered)
    by_person: dict[str, list[tuple[Item, ImportedAnswer]]] = {}
    for key, one in answered.items():
        for answer in one.answers:
            by_person.setdefault(answer.who, []).append((items[key], answer))
    kept = sum(_enter_answers(store, project_id, who, answers) for who, answers in by_person.items())
    return ImportResult(added=added, known=known, answers=kept, people=len(by_person))


def _put_back(
    store: FeedbackStore, project_id: int, items: dict[str, Item], answered: Mapping[str, ImportedItem]
) -> None:
    """Items that an import which was killed left before all others get the priority of their file again."""
    left = {key: answered[key].item.priority for key, item in items.items() if item.new.priority == _FIRST}
    store.set_priorities(project_id, {items[key].id: priority for key, priority in left.items()})
    for key, priority in left.items():
        items[key] = replace(items[key], new=replace(items[key].new, priority=priority))


def mode_for(imported: Sequence[ImportedItem]) -> TaskMode:
    """The mode of a project that can take all of it: by the answers, else by how many completions there are."""
    kinds = {answer.kind for one in imported for answer in one.answers} - {EventKind.MODEL_PREFERENCE}
    counts = {len(one.item.candidates) for one in imported}
    if kinds:
        mode = next((mode for mode, kind in KIND_OF_MODE.items() if kinds == {kind}), TaskMode.RANKING)
        return TaskMode.RANKING if mode is TaskMode.PAIRWISE and counts != {2} else mode
    if min(counts, default=0) < 2:
        return TaskMode.DEMONSTRATION
    return TaskMode.PAIRWISE if counts == {2} else TaskMode.RANKING


def _fitted(one: ImportedItem, settings: ProjectSettings, *, as_controls: bool) -> ImportedItem:
    """The item and its answers as the project's mode has them, checked as the store will."""
    least, most = CANDIDATES_OF_MODE.get(settings.mode, (0, MOST_COMPLETIONS))
    count, where = len(one.item.candidates), f'item "{one.item.prompt.last_user_text[:40]}"'
    if not least <= count <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        what = f"a project of mode {settings.mode} needs {wanted} completions, not {count}"
        now = "Nothing was imported. Take a project of another mode (--set mode=...)."
        raise DataError(what, where=where, now=now)
    answers = tuple(_answer_for(answer, settings.mode) for answer in one.answers)
    item = one.item
    if as_controls and answers:
        item, answers = replace(item, control_answer=answers[0].payload), ()
    try:
        if item.control_answer is not None:
            canonical(KIND_OF_MODE[settings.mode], item.control_answer, range(count), settings)
        for answer in answers:
            canonical(answer.kind, answer.payload, range(count), settings)
    except StoreError as error:
        raise DataError(f"{error.where}: {error.what}", where=where, now="Nothing was imported.") from error
    people = len({answer.who for answer in answers})
    if people > (item.overlap or settings.overlap):  # else it is asked again until it has as many as it wants
        item = replace(item, overlap=people)
    return ImportedItem(item=item, answers=answers)


def _answer_for(answer: ImportedAnswer, mode: TaskMode) -> ImportedAnswer:
    """Rankings of two as strengths and back; a rank says which is better, and that it is so without doubt."""
    if answer.kind is EventKind.RANKING and mode is TaskMode.PAIRWISE and len(answer.payload["ranks"]) == 2:
        first, second = answer.payload["ranks"]
        strength = -STRONGEST if first < second else STRONGEST if first > second else 0
        return replace(answer, kind=EventKind.PAIRWISE, payload={"strength": strength})
    if answer.kind is EventKind.PAIRWISE and mode is not TaskMode.PAIRWISE:
        strength = answer.payload["strength"]
        answer = replace(answer, kind=EventKind.RANKING, payload={"ranks": [1 + (strength > 0), 1 + (strength < 0)]})
    if answer.kind is EventKind.RANKING:
        return replace(answer, payload={**answer.payload, "ranks": dense(answer.payload["ranks"])})
    return answer


def _enter_answers(
    store: FeedbackStore, project_id: int, who: str, answers: Sequence[tuple[Item, ImportedAnswer]]
) -> int:
    """One person's answers: their items go before all others meanwhile, so that the queue gives just these."""
    person = _account(store, project_id, who)
    said: set[str] = set()
    after = 0
    while page := store.events(project_id, after=after, limit=1000, person_id=person.id):
        said |= {event.key for event in page}
        after = page[-1].seq
    waiting = {item.id: (item, answer) for item, answer in answers if _key(item) not in said}
    if not waiting:
        if person.active:  # an import was killed after its last answer
            store.update_person(person.id, active=False)
        return 0
    count, before = len(waiting), {item.id: item.new.priority for item, _ in waiting.values()}
    if not person.active:
        store.update_person(person.id, active=True)
    try:
        store.set_priorities(project_id, dict.fromkeys(waiting, _FIRST))
        _submit_all(store, project_id, person, waiting)
    finally:
        store.set_priorities(project_id, before)
        store.update_person(person.id, active=False)
    return count


def _submit_all(
    store: FeedbackStore, project_id: int, person: Person, waiting: dict[int, tuple[Item, ImportedAnswer]]
) -> None:
    wider = 1
    while waiting:
        pending: list[Future[Event]] = []
        for shown in store.lease(project_id, person.id, count=_AT_ONCE):
            item, answer = waiting.pop(shown.item.id, (None, None)) if not shown.repeat else (None, None)
            if item is None or answer is None:
                store.release(shown.id, person.id)  # a control item, or somebody else's
                continue
            payload, ms = _in_slots(answer.kind, answer.payload, shown.order), answer.time_taken_ms
            told = Answer(key=_key(item), presentation_id=shown.id, kind=answer.kind, payload=payload, time_taken_ms=ms)
            pending.append(store.submit(person.id, told))
        for future in pending:
            future.result()
        if not pending:  # others have filled these items: they get room for one answer more
            if wider > MOST_OVERLAP:
                what, where = f"{len(waiting)} answers find no room", f"project {project_id}"
                raise StoreError(what, where=where, now="Is it archived?")
            wanted = {number: (item.new.overlap or 1) + wider for number, (item, _) in waiting.items()}
            overlap = {number: min(MOST_OVERLAP, value) for number, value in wanted.items()}
            store.set_priorities(project_id, {}, overlap=overlap)
            wider *= 2


def _in_slots(kind: EventKind, payload: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    def shuffled(values: Sequence[Any]) -> list[Any]:
        return [values[position] for position in order]

    if kind is EventKind.RANKING:
        return {"ranks": shuffled(payload["ranks"])}
    if kind is EventKind.PAIRWISE:
        return {"strength": payload["strength"] if list(order) == [0, 1] else -payload["strength"]}
    if kind is EventKind.RATING:
        return {"ratings": {name: shuffled(column) for name, column in payload["ratings"].items()}}
    if kind is EventKind.GOOD_BAD:
        return {"good": shuffled(payload["good"]), "reasons": shuffled(payload["reasons"])}
    return dict(payload)


def _account(store: FeedbackStore, project_id: int, who: str) -> Person:
    """The account of an imported name; without a password, so that nobody can sign in to it."""
    name = f"imported {who}"
    person = store.person_named(name) or store.create_person(name, PersonRole.ANNOTATOR, None)
    members = [member.id for member in store.members(project_id)]
    if person.id not in members:
        store.set_members(project_id, [*members, person.id])
    return person


def _key(item: Item) -> str:
    return f"import {item.id}"
