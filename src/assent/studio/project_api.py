"""Projects, items, guidelines and members: what admins set up, and what all may see of it."""

from __future__ import annotations

import codecs
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from assent.feedback.exchange.imported_items import ImportedItem
from assent.feedback.exchange.store_import import import_items
from assent.feedback.records import NewItem, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.studio.error_page import refusal_of_fields
from assent.studio.item_schemas import ItemIn
from assent.studio.model_opinions import ModelOpinions
from assent.studio.schemas import (
    After,
    GuidelineIn,
    Id,
    MembersIn,
    NewProjectIn,
    ProjectIn,
    guideline_out,
    person_out,
    project_out,
)
from assent.studio.security import Admin, SignedIn, Viewer, guard_of
from assent.studio.threads import in_thread
from assent.web.limits import raise_body_limit
from assent.web.refused import Refused

_MOST_ITEMS = 100_000
_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "one item a line: prompt, candidates, overlap, priority, control_answer, serves, topic, key, "
        "model_preference",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}


def project_router(store: FeedbackStore, opinions: ModelOpinions) -> APIRouter:
    """The routes about projects."""
    router = APIRouter(tags=["projects"])
    _add_projects(router, store)
    _add_contents(router, store, opinions)

    @router.get("/api/projects/{project_id}/progress")
    def progress(request: Request, project_id: Id, actor: Viewer) -> dict[str, Any]:
        """How far a project is, from counters; figures over all answers are at /api/operator/projects/{project_id}."""
        project = guard_of(request).project_now(actor, project_id)
        return asdict(store.progress(project.id))

    return router


def _add_projects(router: APIRouter, store: FeedbackStore) -> None:
    @router.get("/api/projects")
    def projects(actor: SignedIn) -> list[dict[str, Any]]:
        """All projects for an admin, one's own for others."""
        if actor.is_admin:
            return [project_out(project, whole=True) for project in store.projects()]
        mine = store.projects(person_id=actor.person.id)
        return [project_out(project, whole=False) for project in mine if not project.archived]

    @router.get("/api/projects/{project_id}")
    async def one_project(request: Request, project_id: Id, actor: SignedIn) -> dict[str, Any]:
        """A project; how it asks is for admins only."""
        project = await in_thread(guard_of(request).project_now, actor, project_id)
        return project_out(project, whole=actor.is_admin)

    @router.post("/api/projects", status_code=201)
    def create_project(request: Request, given: NewProjectIn, _: Admin) -> dict[str, Any]:
        """Make a project; its name must be new."""
        _check_endpoints(request, given.settings.endpoints)
        return project_out(store.create_project(given.name, given.settings.settings()), whole=True)

    @router.put("/api/projects/{project_id}")
    def change_project(request: Request, project_id: Id, given: ProjectIn, _: Admin) -> dict[str, Any]:
        """Change how a project asks, or put it away and take it out again."""
        project = store.project(project_id)
        if given.settings is not None:
            _check_endpoints(request, given.settings.endpoints)
            project = store.update_project(project_id, given.settings.settings())
        if given.archived is not None:
            project = store.archive_project(project_id, given.archived)
        guard_of(request).forget()
        return project_out(project, whole=True)


def _add_contents(router: APIRouter, store: FeedbackStore, opinions: ModelOpinions) -> None:
    @router.post("/api/projects/{project_id}/items", status_code=201, openapi_extra=_UPLOAD)
    async def add_items(request: Request, project_id: Id, _: Admin) -> dict[str, Any]:
        """Add items, one JSON object a line; all or none. A line whose key is there already adds nothing.

        A `model_preference` is kept as the answer of a model; it counts towards the item's overlap.
        """
        raise_body_limit(request.scope, guard_of(request).settings.upload_limit_bytes)
        project = await in_thread(store.project, project_id)
        body = await request.body()
        added, known = await in_thread(lambda: _add(store, project_id, _items_of(body, project.settings.mode)))
        opinions.forget(project_id)
        return {"added": added, "already_there": known}

    @router.post("/api/projects/{project_id}/guidelines", status_code=201)
    def add_guideline(request: Request, project_id: Id, given: GuidelineIn, actor: Admin) -> dict[str, Any]:
        """Write the next version of the guidelines; the earlier ones stay readable."""
        written = store.add_guideline(project_id, given.text, actor.person.name)
        guard_of(request).forget()
        return guideline_out(written)

    @router.get("/api/projects/{project_id}/members")
    def members(project_id: Id, _: Admin) -> list[dict[str, Any]]:
        """Who works on the project."""
        store.project(project_id)
        return [person_out(person) for person in store.members(project_id)]

    @router.put("/api/projects/{project_id}/members")
    def set_members(request: Request, project_id: Id, given: MembersIn, _: Admin) -> list[dict[str, Any]]:
        """Say who works on the project: these, and nobody else."""
        store.project(project_id)
        for person_id in dict.fromkeys(given.person_ids):
            store.person(person_id)
        store.set_members(project_id, list(dict.fromkeys(given.person_ids)))
        guard_of(request).forget()
        return [person_out(person) for person in store.members(project_id)]

    @router.get("/api/projects/{project_id}/items")
    def items(project_id: Id, _: Admin, after: After = 0) -> list[dict[str, Any]]:
        """The project's items by number, a hundred at a time, each with the start of its prompt."""
        store.project(project_id)
        return [
            {
                "id": item.id, "key": item.new.key, "topic": item.new.topic, "priority": item.new.priority,
                "candidates": len(item.new.candidates), "withdrawn": item.withdrawn,
                "prompt": item.new.prompt.last_user_text[:200],
            }
            for item in store.items(project_id, after=after, limit=100)
        ]  # fmt: skip


def _check_endpoints(request: Request, names: list[str]) -> None:
    known = guard_of(request).settings.endpoints
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            what, now = f'there is no endpoint "{name[:60]}"', f"The settings of the studio name: {listed}."
            raise Refused(422, what, where="settings.endpoints", now=now)


def _add(store: FeedbackStore, project_id: int, items: list[ImportedItem]) -> tuple[int, int]:
    if any(one.answers for one in items):
        found = import_items(store, project_id, items)
        return found.added, found.known
    return store.add_items(project_id, [one.item for one in items])


def _items_of(body: bytes, mode: TaskMode) -> list[ImportedItem]:
    items: list[ImportedItem] = []
    for number, line in enumerate(body.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not line.strip():
            continue
        if len(items) == _MOST_ITEMS:
            raise Refused(413, f"more than {_MOST_ITEMS:,} items were sent at once", now="Send them in parts.")
        try:
            items.append(ItemIn.model_validate_json(line).imported())
        except ValidationError as error:
            raise refusal_of_fields(error.errors(include_url=False), place=f"line {number}") from None
        _check_is_a_question(items[-1].item, mode, f"line {number}")
    if not items:
        raise Refused(422, "no items were sent", now="Send one JSON object a line.")
    return items


def _check_is_a_question(item: NewItem, mode: TaskMode, place: str) -> None:
    """Refused (422) where people would be asked about nothing."""
    said = any(message.content.strip() for message in item.prompt.messages)
    if not said and mode not in (TaskMode.CHAT, TaskMode.RED_TEAM):
        raise Refused(422, "the prompt is empty", where=f"{place}: prompt", now="Correct or remove the line.")
    texts = {candidate.text.strip() for candidate in item.candidates}
    if mode in (TaskMode.RANKING, TaskMode.PAIRWISE) and len(item.candidates) > 1 and len(texts) == 1:
        what = "all candidates are the same text"
        raise Refused(422, what, where=f"{place}: candidates", now="Correct or remove the line.")
