"""The items of a project, as operations on a transaction: added, reordered, withdrawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import MOST_COMPLETIONS, EventKind, NewItem, ProjectSettings, TaskMode
from assent.feedback.refusals import Invalid, NotFound, text_of
from assent.feedback.store import projects
from assent.feedback.store.payloads import canonical
from assent.feedback.store.projects import FORGET_CURSORS, check_overlap, open_with
from assent.feedback.store.rows import item_to_json
from assent.feedback.store.schema import contents, items
from assent.feedback.store.session import NO, YES, Row, Statement, change, insert
from assent.feedback.store.writer import Transaction

_i = items.c
_INSERT_ITEM, _INSERT_CONTENT = insert(items), insert(contents)
_LAST_ITEM = Statement(sa.select(sa.func.coalesce(sa.func.max(_i.id), 0)))
_ITEM_BY_KEY = Statement(
    sa.select(_i.id).where(_i.project_id == bindparam("project"), _i.key == bindparam("key"), sa.text("key <> ''"))
)
_HERE = (_i.id == bindparam("id"), _i.project_id == bindparam("project"))
_ITEM_STATE = Statement(sa.select(_i.overlap, _i.control, _i.withdrawn, _i.given).where(*_HERE))
_WHICH = _i.id == bindparam("which")
_VALUE: sa.BindParameter[Any] = bindparam("value")
_SET_PRIORITY = change(items, _WHICH, priority=_VALUE)
_SET_OVERLAP = change(items, _WHICH, overlap=_VALUE, own_overlap=YES, open=open_with(_VALUE))
_WITHDRAW = change(items, _WHICH, withdrawn=YES, open=NO)


def add_items(transaction: Transaction, project_id: int, new: Sequence[NewItem]) -> tuple[int, int]:
    """How many items were added, and how many were there already by their key."""
    settings = projects.find(transaction, project_id).settings
    for place, item in enumerate(new):
        _check_item(item, settings, f"items.{place}")
    last = transaction.first(_LAST_ITEM)
    assert last is not None
    hot: list[dict[str, Any]] = []
    cold: list[dict[str, Any]] = []
    keys: set[str] = set()
    for item in new:
        if item.key and (item.key in keys or transaction.first(_ITEM_BY_KEY, project=project_id, key=item.key)):
            continue
        keys.add(item.key)
        item_id = last[0] + len(hot) + 1
        hot.append(_hot(item, item_id, project_id, settings.overlap, transaction.now))
        cold.append({"item_id": item_id, "content": item_to_json(item)})
    transaction.run_many(_INSERT_ITEM, hot)
    transaction.run_many(_INSERT_CONTENT, cold)
    asked = [row["overlap"] for row in hot if not row["control"]]
    transaction.count(project_id, asked=len(asked), wanted=sum(asked))
    if hot:
        transaction.run(FORGET_CURSORS, project=project_id)
    return len(hot), len(new) - len(hot)


def _hot(item: NewItem, item_id: int, project_id: int, overlap: int, now: float) -> dict[str, Any]:
    control = int(item.control_answer is not None)
    values: dict[str, Any] = {"id": item_id, "project_id": project_id, "key": item.key, "topic": item.topic}
    values |= {"priority": float(item.priority), "overlap": item.overlap or overlap, "created_at": now}
    values |= {"own_overlap": int(item.overlap is not None), "control": control, "open": 1 - control}
    return values | {"withdrawn": 0, "taken": 0, "given": 0}


def set_priorities(
    transaction: Transaction, project_id: int, priority: Mapping[int, float], overlap: Mapping[int, int]
) -> None:
    """Change priorities and overlaps of items of one project; NotFound for any other item."""
    projects.find(transaction, project_id)
    for item_id, value in priority.items():
        if not math.isfinite(value):
            raise Invalid("a priority is a finite number", where=f"priority.{item_id}", now="Correct it.")
    for item_id, value in overlap.items():
        check_overlap(value, f"overlap.{item_id}")
    known = _states(transaction, project_id, {*priority, *overlap})
    transaction.run_many(_SET_PRIORITY, [{"which": i, "value": float(v)} for i, v in priority.items()])
    transaction.run_many(_SET_OVERLAP, [{"which": i, "value": v} for i, v in overlap.items()])
    for item_id, value in overlap.items():
        old, control, withdrawn, given = known[item_id]
        if not control and not withdrawn:
            transaction.count(project_id, wanted=value - old, finished=(given >= value) - (given >= old))
    transaction.run(FORGET_CURSORS, project=project_id)


def withdraw_items(transaction: Transaction, project_id: int, item_ids: Sequence[int]) -> None:
    """Ask nobody else about these items; who has one open may still answer it."""
    for item_id, (overlap, control, withdrawn, given) in _states(transaction, project_id, item_ids).items():
        if not withdrawn:
            transaction.run(_WITHDRAW, which=item_id)
        if not withdrawn and not control:
            transaction.count(project_id, asked=-1, wanted=-overlap, given=-given, finished=-(given >= overlap))


def _states(transaction: Transaction, project_id: int, item_ids: Iterable[int]) -> dict[int, Row]:
    """(overlap, control, withdrawn, given) of each item; NotFound for an item of another project."""
    found = {}
    for item_id in item_ids:
        state = transaction.first(_ITEM_STATE, id=item_id, project=project_id)
        if state is None:
            raise NotFound(f"the project has no item {item_id}", now="See its items.")
        found[item_id] = state
    return found


CANDIDATES_OF_MODE = {
    TaskMode.RANKING: (2, MOST_COMPLETIONS),
    TaskMode.PAIRWISE: (2, 2),
    TaskMode.RATING: (1, MOST_COMPLETIONS),
    TaskMode.GOOD_BAD: (1, MOST_COMPLETIONS),
}
KIND_OF_MODE = {
    TaskMode.RANKING: EventKind.RANKING,
    TaskMode.PAIRWISE: EventKind.PAIRWISE,
    TaskMode.RATING: EventKind.RATING,
    TaskMode.GOOD_BAD: EventKind.GOOD_BAD,
    TaskMode.DEMONSTRATION: EventKind.DEMONSTRATION,
    TaskMode.CHAT: EventKind.CHAT_TURN,
    TaskMode.RED_TEAM: EventKind.RED_TEAM,
}


def check_predicted(predicted: Sequence[float], candidates: int, path: str) -> None:
    """Raises Invalid unless there is one finite number for each candidate."""
    if len(predicted) != candidates or not all(math.isfinite(value) for value in predicted):
        what = f"expected one finite number for each of {candidates} candidates"
        raise Invalid(what, where=path, now="Send what the reward model says of each.")


def _check_item(item: NewItem, settings: ProjectSettings, path: str) -> None:
    least, most = CANDIDATES_OF_MODE.get(settings.mode, (0, MOST_COMPLETIONS))
    if not least <= len(item.candidates) <= most:
        what = f"a project of mode {settings.mode} needs {least} to {most} completions, not {len(item.candidates)}"
        raise Invalid(what, where=f"{path}.candidates", now="Correct the item.")
    if item.overlap is not None:
        check_overlap(item.overlap, f"{path}.overlap")
    if not math.isfinite(item.priority):
        raise Invalid("a priority is a finite number", where=f"{path}.priority", now="Correct it.")
    for name in ("serves", "topic", "key", "batch"):
        text_of(getattr(item, name), f"{path}.{name}", most=1000)
    for place, message in enumerate(item.prompt.messages):
        text_of(message.content, f"{path}.prompt.{place}", most=2_000_000)
    for place, candidate in enumerate(item.candidates):
        text_of(candidate.text, f"{path}.candidates.{place}.text", most=2_000_000)
        text_of(candidate.model, f"{path}.candidates.{place}.model", most=1000)
    if item.predicted is not None:
        check_predicted(item.predicted, len(item.candidates), f"{path}.predicted")
    if item.control_answer is not None:
        canonical(KIND_OF_MODE[settings.mode], item.control_answer, range(len(item.candidates)), settings)
