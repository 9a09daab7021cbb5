"""Projects and their guidelines, as operations on a transaction."""

from __future__ import annotations

import math
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.records import MOST_OVERLAP, Guideline, Project, ProjectSettings
from assent.feedback.refusals import Invalid, NotFound, Taken, text_of
from assent.feedback.store.rows import project_of, settings_to_json
from assent.feedback.store.schema import cursors, guidelines, items, members, projects
from assent.feedback.store.session import NO, YES, Session, Statement, change, insert
from assent.feedback.store.writer import PROJECT_COUNTERS, Transaction

_MOST_NAME, _MOST_LEASE_S = 200, 30 * 86400.0
PROJECT_COLUMNS = [projects.c[n] for n in ("id", "name", "settings", "guideline_version", "archived", "created_at")]
_p = projects.c
_SELECT = sa.select(*PROJECT_COLUMNS)
_BY_ID, _BY_NAME = (Statement(_SELECT.where(one == bindparam(one.name))) for one in (_p.id, _p.name))
_ALL = Statement(_SELECT.order_by(_p.id))
_m = members.c
_OF_PERSON = Statement(
    _SELECT.join(members, _m.project_id == _p.id).where(_m.person_id == bindparam("person")).order_by(_p.id)
)
_LAST = Statement(sa.select(sa.func.coalesce(sa.func.max(_p.id), 0)))
_INSERT = insert(projects)
_WHICH = _p.id == bindparam("which")
_SET_SETTINGS = change(projects, _WHICH, settings=bindparam("text"))
_ARCHIVE = change(projects, _WHICH, archived=bindparam("value"))


def open_with(overlap: Any) -> sa.Case[int]:
    """1 for an item that may be given to one more person, with so many to ask."""
    wanted = sa.and_(items.c.withdrawn == 0, items.c.control == 0, items.c.taken < overlap)
    return sa.case((wanted, YES), else_=NO)


_i = items.c
_VALUE: sa.BindParameter[Any] = bindparam("value")
_FOLLOWING = (_i.project_id == bindparam("project"), _i.own_overlap == NO)
_FOLLOW_OVERLAP = change(items, *_FOLLOWING, overlap=_VALUE, open=open_with(_VALUE))
_RECOUNT = Statement(
    sa.select(
        sa.func.coalesce(sa.func.sum(_i.overlap), 0),
        sa.func.coalesce(sa.func.sum(sa.case((_i.given >= _i.overlap, 1), else_=0)), 0),
    ).where(_i.project_id == bindparam("project"), _i.control == NO, _i.withdrawn == NO)
)
_SET_COUNTS = change(projects, _WHICH, wanted=bindparam("wanted_now"), finished=bindparam("finished_now"))
FORGET_CURSORS = Statement(cursors.delete().where(cursors.c.project_id == bindparam("project")))

_g = guidelines.c
_GUIDELINE = Statement(
    sa.select(_g.project_id, _g.version, _g.text, _g.created_at, _g.author).where(
        _g.project_id == bindparam("project"), _g.version == bindparam("version")
    )
)
_INSERT_GUIDELINE = insert(guidelines)
_SET_GUIDELINE = change(projects, _WHICH, guideline_version=bindparam("version"))


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
        transaction.run(FORGET_CURSORS, project=project_id)
    return find(transaction, project_id)


def archive(transaction: Transaction, project_id: int, archived: bool) -> Project:
    """An archived project asks nobody; what was answered stays."""
    find(transaction, project_id)
    transaction.projects.pop(project_id, None)
    transaction.run(_ARCHIVE, which=project_id, value=int(archived))
    return find(transaction, project_id)


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
    check_overlap(settings.overlap, "settings.overlap")
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


def check_overlap(value: int, path: str) -> None:
    """Invalid for what is no number of people to ask."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_OVERLAP:
        raise Invalid(f"an overlap is a whole number from 1 to {MOST_OVERLAP}", where=path, now="Correct it.")
