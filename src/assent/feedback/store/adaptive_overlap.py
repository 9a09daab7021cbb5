"""Adaptive overlap at work: after every answer an item says how many people it wants, between two limits.

An item of a project with `adaptive_overlap` above `overlap` first gets `overlap` labels. Then it is open for one more
as long as `overlap.needs_more` says so. What an item wants depends on its standing answers and predictions alone, so
undoing an answer takes back what it caused. Items with an overlap of their own, and control items, are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam

from assent.feedback.quality.overlap import needs_more
from assent.feedback.records import Project, ProjectSettings
from assent.feedback.refusals import NotFound
from assent.feedback.store import projects, reading
from assent.feedback.store.project_items import check_predicted
from assent.feedback.store.rows import to_json
from assent.feedback.store.schema import contents, items
from assent.feedback.store.session import Statement, change
from assent.feedback.store.slots import item_state, set_wanted
from assent.feedback.store.writer import Transaction

_CONTENT = Statement(
    sa.select(contents.c.content)
    .join(items, items.c.id == contents.c.item_id)
    .where(items.c.project_id == bindparam("project"), items.c.id == bindparam("item"))
)
_SET_CONTENT = change(contents, contents.c.item_id == bindparam("which"), content=bindparam("text"))
_ANSWERED_AT_ONCE = 1000


def reconsider(transaction: Transaction, project_id: int, item_id: int) -> None:
    """Ask as many people about the item as it wants now."""
    settings = projects.find(transaction, project_id).settings
    if settings.adaptive_overlap > settings.overlap:
        _settle(transaction, project_id, item_id, settings)


def _settle(transaction: Transaction, project_id: int, item_id: int, settings: ProjectSettings) -> None:
    state = item_state(transaction, item_id)
    if state.control or state.withdrawn or state.own_overlap:
        return
    wanted = max(settings.overlap, state.given)
    if settings.overlap <= state.given < settings.adaptive_overlap:
        answered = reading.answered_item(transaction, project_id, item_id)
        wanted += answered is not None and needs_more(answered, most=settings.adaptive_overlap)
    if wanted != state.overlap:
        set_wanted(transaction, item_id, state, wanted)


def update_project(transaction: Transaction, project_id: int, settings: ProjectSettings) -> Project:
    """Change the settings; where one of the two limits is another, every answered item is reconsidered."""
    before = projects.find(transaction, project_id).settings
    after = projects.update(transaction, project_id, settings)
    limits = [(one.overlap, max(one.overlap, one.adaptive_overlap)) for one in (before, settings)]
    if limits[0] != limits[1] and any(least < most for least, most in limits):
        item_id = 0
        while page := reading.answered_page(transaction, project_id, after_item=item_id, limit=_ANSWERED_AT_ONCE):
            for answered in page:
                _settle(transaction, project_id, answered.item.id, settings)
            item_id = page[-1].item.id
    return after


def set_predictions(transaction: Transaction, project_id: int, predicted: Mapping[int, Sequence[float]]) -> None:
    """Keep what a reward model says of items, and reconsider them; NotFound for items of other projects, Invalid."""
    projects.find(transaction, project_id)
    changed = []
    for item_id, scores in predicted.items():
        row = transaction.first(_CONTENT, project=project_id, item=item_id)
        if row is None:
            raise NotFound(f"the project has no item {item_id}", now="See its items.")
        content = json.loads(row[0])
        check_predicted(scores, len(content["candidates"]), f"predicted.{item_id}")
        changed.append({"which": item_id, "text": to_json({**content, "predicted": list(scores)})})
    transaction.run_many(_SET_CONTENT, changed)
    for item_id in predicted:
        reconsider(transaction, project_id, item_id)
