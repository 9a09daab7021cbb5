"""Projects, their guidelines and their items, as operations on a transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import (
    MOST_COMPLETIONS,
    EventKind,
    Guideline,
    NewItem,
    Project,
    ProjectSettings,
    TaskMode,
)
from assent.feedback.refusals import Invalid, NotFound, Taken, text_of
from assent.feedback.store.engine import Session, Statement, insert
from assent.feedback.store.payloads import canonical
from assent.feedback.store.rows import item_to_json, project_of, settings_to_json
from assent.feedback.store.schema import contents, cursors, guidelines, items, members, projects
from assent.feedback.store.writer import PROJECT_COUNTERS, Transaction

_MOST_NAME, _MOST_OVERLAP, _MOST_LEASE_S = 200, 1000, 30 * 86400.0
PROJECT_COLUMNS = [projects.c[n] for n in ("id", "name", "settings", "guideline_version", "archived", "created_at")]
_p = projects.c
_BY_ID = Statement(sa.select(*PROJECT_COLUMNS).where(_p.id == bindparam("id")))
_BY_NAME = Statement(sa.select(*PROJECT_COLUMNS).where(_p.name == bindparam("name")))
_ALL = Statement(sa.select(*PROJECT_COLUMNS).order_by(_p.id))
_OF_PERSON = Statement(
    sa.select(*PROJECT_COLUMNS)
    .join(members, members.c.project_id == _p.id)
    .where(members.c.person_id == bindparam("person"))
    .order_by(_p.id)
)
_LAST = Statement(sa.select(sa.func.coalesce(sa.func.max(_p.id), 0)))
_INSERT = insert(projects)
_SET_SETTINGS = Statement(projects.update().where(_p.id == bindparam("which")).values(settings=bindparam("text")))
_ARCHIVE = Statement(projects.update().where(_p.id == bindparam("which")).values(archived=bindparam("value")))

_i = items.c
_INSERT_ITEM, _INSERT_CONTENT = insert(items), insert(contents)
_LAST_ITEM = Statement(sa.select(sa.func.coalesce(sa.func.max(_i.id), 0)))
_ITEM_BY_KEY = Statement(
    sa.select(_i.id).where(_i.project_id == bindparam("project"), _i.key == bindparam("key"), sa.text("key <> ''"))
)
_ITEM_STATE = Statement(
    sa.select(_i.overlap, _i.control, _i.withdrawn, _i.given).where(
        _i.id == bindparam("id"), _i.project_id == bindparam("project")
    )
)
_SET_PRIORITY = Statement(items.update().where(_i.id == bindparam("which")).values(priority=bindparam("value")))


def _open_with(overlap: Any) -> sa.Case[int]:
    wanted = sa.and_(_i.withdrawn == 0, _i.control == 0, _i.taken < overlap)
    return sa.case((wanted, sa.literal_column("1")), else_=sa.literal_column("0"))


_SET_OVERLAP = Statement(
    items.update()
    .where(_i.id == bindparam("which"))
    .values(overlap=bindparam("value"), own_overlap=sa.literal_column("1"), open=_open_with(bindparam("value")))
)
_FOLLOW_OVERLAP = Statement(
    items.update()
    .where(_i.project_id == bindparam("project"), _i.own_overlap == sa.literal_column("0"))
    .values(overlap=bindparam("value"), open=_open_with(bindparam("value")))
)
_WITHDRAW = Statement(
    items.update()
    .where(_i.id == bindparam("which"))
    .values(withdrawn=sa.literal_column("1"), open=sa.literal_column("0"))
)
_RECOUNT = Statement(
    sa.select(
        sa.func.coalesce(sa.func.sum(_i.overlap), 0),
        sa.func.coalesce(sa.func.sum(sa.case((_i.given >= _i.overlap, 1), else_=0)), 0),
    ).where(
        _i.project_id == bindparam("project"),
        _i.control == sa.literal_column("0"),
        _i.withdrawn == sa.literal_column("0"),
    )
)
_SET_COUNTS = Statement(
    projects.update()
    .where(_p.id == bindparam("which"))
    .values(wanted=bindparam("wanted_now"), finished=bindparam("finished_now"))
)
_FORGET_CURSORS = Statement(cursors.delete().where(cursors.c.project_id == bindparam("project")))

_g = guidelines.c
_GUIDELINE = Statement(
    sa.select(_g.project_id, _g.version, _g.text, _g.created_at, _g.author).where(
        _g.project_id == bindparam("project"), _g.version == bindparam("version")
    )
)
_INSERT_GUIDELINE = insert(guidelines)
_SET_GUIDELINE = Statement(
    projects.update().where(_p.id == bindparam("which")).values(guideline_version=bindparam("version"))
)


def find(session: Session, project_id: int) -> Project:
    """The project; NotFound. A transaction asks the database once, until it changes a project itself."""
    known = session.projects.get(project_id) if isinstance(session, Transaction) else None
    if known is not None:
        return known
    row = session.first(_BY_ID, id=project_id)
    if row is None:
        raise NotFound(f"there is no project {project_id}", now="See the list of projects.")
    found = project_of(row)
    if isinstance(session, Transaction):
        session.projects[project_id] = found
    return found


def named(session: Session, name: str) -> Project | None:
    """The project of this name, if there is one."""
    row = session.first(_BY_NAME, name=name)
    return None if row is None else project_of(row)


def listed(session: Session, person_id: int | None) -> list[Project]:
    """All projects, or those that a person is a member of."""
    rows = session.rows(_ALL) if person_id is None else session.rows(_OF_PERSON, person=person_id)
    return [project_of(row) for row in rows]


def create(transaction: Transaction, name: str, settings: ProjectSettings) -> Project:
    """Add a project; Taken if the name is."""
    text_of(name, "name", least=1, most=_MOST_NAME)
    _check_settings(settings)
    if named(transaction, name) is not None:
        raise Taken(f"there is a project called {name!r} already", where="name", now="Choose another name.")
    last = transaction.first(_LAST)
    assert last is not None
    values: dict[str, Any] = dict.fromkeys(PROJECT_COUNTERS, 0)
    values |= {"id": last[0] + 1, "name": name, "settings": settings_to_json(settings), "created_at": transaction.now}
    transaction.run(_INSERT, **values, guideline_version=0, archived=0)
    return find(transaction, last[0] + 1)


def update(transaction: Transaction, project_id: int, settings: ProjectSettings) -> Project:
    """Change the settings; a new overlap also holds for the items that were added without one of their own."""
    before = find(transaction, project_id).settings
    _check_settings(settings)
    if settings.mode is not before.mode:
        now = "Make a new project for the other mode."
        raise Invalid("the mode of a project cannot be changed", where="settings.mode", now=now)
    transaction.projects.pop(project_id, None)
    transaction.run(_SET_SETTINGS, which=project_id, text=settings_to_json(settings))
    if settings.overlap != before.overlap:
        transaction.finish()
        transaction.run(_FOLLOW_OVERLAP, project=project_id, value=settings.overlap)
        counts = transaction.first(_RECOUNT, project=project_id)
        assert counts is not None
        transaction.run(_SET_COUNTS, which=project_id, wanted_now=int(counts[0]), finished_now=int(counts[1]))
        transaction.run(_FORGET_CURSORS, project=project_id)
    return find(transaction, project_id)


def archive(transaction: Transaction, project_id: int, archived: bool) -> Project:
    """An archived project asks nobody; what was answered stays."""
    find(transaction, project_id)
    transaction.projects.pop(project_id, None)
    transaction.run(_ARCHIVE, which=project_id, value=int(archived))
    return find(transaction, project_id)


def add_items(transaction: Transaction, project_id: int, new: Sequence[NewItem]) -> tuple[int, int]:
    """How many items were added, and how many were there already by their key."""
    settings = find(transaction, project_id).settings
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
        transaction.run(_FORGET_CURSORS, project=project_id)
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
    find(transaction, project_id)
    for item_id, value in priority.items():
        if not math.isfinite(value):
            raise Invalid("a priority is a finite number", where=f"priority.{item_id}", now="Correct it.")
    for item_id, value in overlap.items():
        _check_overlap(value, f"overlap.{item_id}")
    known = {
        item_id: transaction.first(_ITEM_STATE, id=item_id, project=project_id) for item_id in {*priority, *overlap}
    }
    for item_id, state in known.items():
        if state is None:
            raise NotFound(f"the project has no item {item_id}", now="See its items.")
    transaction.run_many(_SET_PRIORITY, [{"which": i, "value": float(v)} for i, v in priority.items()])
    transaction.run_many(_SET_OVERLAP, [{"which": i, "value": v} for i, v in overlap.items()])
    for item_id, value in overlap.items():
        state = known[item_id]
        assert state is not None
        old, control, withdrawn, given = state
        if not control and not withdrawn:
            transaction.count(project_id, wanted=value - old, finished=(given >= value) - (given >= old))
    transaction.run(_FORGET_CURSORS, project=project_id)


def withdraw_items(transaction: Transaction, project_id: int, item_ids: Sequence[int]) -> None:
    """Ask nobody else about these items; who has one open may still answer it."""
    states = {item_id: transaction.first(_ITEM_STATE, id=item_id, project=project_id) for item_id in item_ids}
    for item_id, state in states.items():
        if state is None:
            raise NotFound(f"the project has no item {item_id}", now="See its items.")
    for item_id, state in states.items():
        assert state is not None
        overlap, control, withdrawn, given = state
        if not withdrawn:
            transaction.run(_WITHDRAW, which=item_id)
        if not withdrawn and not control:
            transaction.count(project_id, asked=-1, wanted=-overlap, given=-given, finished=-(given >= overlap))


def guideline(session: Session, project_id: int, version: int | None) -> Guideline | None:
    """One version of the guidelines, by default the newest."""
    wanted = find(session, project_id).guideline_version if version is None else version
    row = session.first(_GUIDELINE, project=project_id, version=wanted)
    if row is None:
        return None
    return Guideline(project_id=row[0], version=row[1], text=row[2], created_at=row[3], author=row[4])


def add_guideline(transaction: Transaction, project_id: int, text: str, author: str) -> Guideline:
    """A new version, which is asked under from now on."""
    version = find(transaction, project_id).guideline_version + 1
    text_of(text, "text")
    text_of(author, "author", most=_MOST_NAME)
    values = {"project_id": project_id, "version": version, "text": text, "author": author}
    transaction.run(_INSERT_GUIDELINE, **values, created_at=transaction.now)
    transaction.projects.pop(project_id, None)
    transaction.run(_SET_GUIDELINE, which=project_id, version=version)
    return Guideline(project_id=project_id, version=version, text=text, created_at=transaction.now, author=author)


def _check_settings(settings: ProjectSettings) -> None:
    _check_overlap(settings.overlap, "settings.overlap")
    if not 1.0 <= settings.lease_s <= _MOST_LEASE_S:
        what = f"a lease lasts from 1 to {_MOST_LEASE_S:.0f} seconds"
        raise Invalid(what, where="settings.lease_s", now="Correct it.")
    shares = {name: getattr(settings, name) for name in ("criteria_share", "control_share", "repeat_share")}
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise Invalid("a share is from 0 to 1", where=f"settings.{name}", now="Correct it.")
    if settings.control_share + settings.repeat_share > 1.0:
        raise Invalid("control and repeats are more than all", where="settings.control_share", now="Lower one of them.")
    if not math.isfinite(settings.cost_per_hour) or settings.cost_per_hour < 0:
        raise Invalid("a cost is a number from 0", where="settings.cost_per_hour", now="Correct it.")
    text_of(settings.instructions, "settings.instructions")
    for name in ("criteria", "endpoints"):
        for place, value in enumerate(getattr(settings, name)):
            text_of(value, f"settings.{name}.{place}", least=1, most=_MOST_NAME)


def _check_overlap(value: int, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_OVERLAP:
        raise Invalid(f"an overlap is a whole number from 1 to {_MOST_OVERLAP}", where=path, now="Correct it.")


_CANDIDATES = {
    TaskMode.RANKING: (2, MOST_COMPLETIONS),
    TaskMode.PAIRWISE: (2, 2),
    TaskMode.RATING: (1, MOST_COMPLETIONS),
    TaskMode.GOOD_BAD: (1, MOST_COMPLETIONS),
}
_CONTROL_KIND = {
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
    least, most = _CANDIDATES.get(settings.mode, (0, MOST_COMPLETIONS))
    if not least <= len(item.candidates) <= most:
        what = f"a project of mode {settings.mode} needs {least} to {most} completions, not {len(item.candidates)}"
        raise Invalid(what, where=f"{path}.candidates", now="Correct the item.")
    if item.overlap is not None:
        _check_overlap(item.overlap, f"{path}.overlap")
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
        canonical(_CONTROL_KIND[settings.mode], item.control_answer, range(len(item.candidates)), settings)
