"""What the annotator's page asks for: the next items, leases, undo, one's own history, guidelines, rest."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from assent.feedback.records import Event, EventKind, Presentation
from assent.feedback.store.store import FeedbackStore
from assent.studio.answers import DurableEvents
from assent.studio.error_page import not_found
from assent.studio.fatigue import fatigue_of
from assent.studio.schemas import Id, TokenInPath, UndoIn, Version, guideline_out, own_event_out, presentation_out
from assent.studio.security import Actor, Annotator, SignedIn, guard_of
from assent.studio.threads import in_thread

_FATIGUE_EVENTS = 300
OwnLimit = Annotated[int, Query(ge=1, le=500)]
Count = Annotated[int, Query(ge=1, le=5)]


def labeling_router(store: FeedbackStore, durable: DurableEvents) -> APIRouter:
    """The routes of labeling, but for sending an answer, which is in `answers`."""
    router = APIRouter(tags=["labeling"])
    _add_asking(router, store)
    _add_reading(router, store)

    @router.post("/api/answers/{seq}/undo", status_code=201)
    async def undo(seq: Id, given: UndoIn, actor: Annotator) -> Response:
        """Take back one's own answer; the item comes back first, and the history keeps both."""
        event, status = await durable.settled(store.undo(actor.person.id, seq, given.key))
        return JSONResponse({"seq": event.seq, "undone_seq": event.undone_seq}, status)

    return router


def _add_asking(router: APIRouter, store: FeedbackStore) -> None:
    @router.get("/api/projects/{project_id}/next")
    async def next_items(request: Request, project_id: Id, actor: Annotator, count: Count = 1) -> Response:
        """The next items for this person, under a lease. Asking again gives the same ones until they are answered."""
        project = await guard_of(request).project(actor, project_id)

        def leased() -> tuple[list[Presentation], int]:
            return store.lease(project_id, actor.person.id, count=count), store.labels_left(project_id)

        given, left = await in_thread(leased)
        return _json({"items": [presentation_out(one, project) for one in given], "left": left})

    @router.post("/api/presentations/{presentation_id}/renew")
    def renew(presentation_id: TokenInPath, actor: Annotator) -> dict[str, Any]:
        """Keep an item for oneself a while longer."""
        _check_theirs(store, presentation_id, actor)
        return {"renewed": store.renew(presentation_id, actor.person.id)}

    @router.post("/api/presentations/{presentation_id}/release")
    def release(presentation_id: TokenInPath, actor: Annotator) -> dict[str, Any]:
        """Give an item back unanswered."""
        _check_theirs(store, presentation_id, actor)
        store.release(presentation_id, actor.person.id)
        return {"released": True}


def _add_reading(router: APIRouter, store: FeedbackStore) -> None:
    @router.get("/api/projects/{project_id}/mine")
    async def mine(request: Request, project_id: Id, actor: Annotator, limit: OwnLimit = 50) -> Response:
        """One's own latest answers, newest first, and whether they were taken back."""
        await guard_of(request).project(actor, project_id)
        events = await in_thread(_newest, store, project_id, actor.person.id, limit)
        stands = await in_thread(lambda: store.shown_as(project_id, actor.person.id, limit=limit))
        return _json([own_event_out(e, stands.get(e.seq)) for e in events if e.kind is not EventKind.UNDO])

    @router.get("/api/projects/{project_id}/guideline")
    async def guideline(request: Request, project_id: Id, actor: SignedIn, version: Version = None) -> Response:
        """The project's guidelines: the newest version, or the one named."""
        await guard_of(request).project(actor, project_id)
        found = await in_thread(store.guideline, project_id, version)
        if found is None and version is not None:
            raise not_found("there is no such version of the guidelines")
        return _json(guideline_out(found) if found else {"version": 0, "text": ""})

    @router.get("/api/projects/{project_id}/fatigue")
    async def fatigue(request: Request, project_id: Id, actor: Annotator) -> Response:
        """Whether a break would do good."""
        await guard_of(request).project(actor, project_id)
        events = await in_thread(_newest, store, project_id, actor.person.id, _FATIGUE_EVENTS)
        undone = {event.undone_seq for event in events}
        standing = [event for event in events if event.kind is not EventKind.UNDO and event.seq not in undone]
        return _json(asdict(fatigue_of(standing, time.time())))


def _check_theirs(store: FeedbackStore, presentation_id: str, actor: Actor) -> None:
    if store.presentation(presentation_id, actor.person.id) is None:
        raise not_found("there is no such presentation")


def _newest(store: FeedbackStore, project_id: int, person_id: int, limit: int) -> list[Event]:
    return store.events(project_id, person_id=person_id, limit=limit, newest_first=True)


def _json(content: object) -> Response:
    return Response(pydantic_core.to_json(content), media_type="application/json")
