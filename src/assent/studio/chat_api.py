"""Talking with models and annotating them: one model, two blind ones side by side, or one to draw harm out of.

The models are the project's endpoints; the page never learns their names or addresses. An answer reaches the page while
it is written, and the server keeps it, so that what is compared is what the model said.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from assent.feedback.records import EventKind, Project, TaskMode, conversation_to_json
from assent.feedback.store.store import FeedbackStore
from assent.studio.chat_answering import Answering
from assent.studio.chat_desk import Desk, used_key
from assent.studio.chat_schemas import AnnotateIn, OpenIn, RateIn, SayIn, TakeBackIn
from assent.studio.schemas import Id
from assent.studio.security import Annotator, guard_of
from assent.studio.settings import StudioSettings
from assent.studio.talks import Talk
from assent.studio.templates import page
from assent.studio.upstream import Upstream
from assent.types import Conversation
from assent.web.refused import Refused

_MODES = (TaskMode.CHAT, TaskMode.RED_TEAM)


def chat_router(
    store: FeedbackStore,
    settings: StudioSettings,
    *,
    upstream: Upstream | None = None,
    lots: random.Random | None = None,
) -> APIRouter:
    """The page and routes of talking; `lots` draws who answers on which side."""
    models = upstream or Upstream(settings.endpoints, environment=os.environ)
    desk = Desk(store, models, lots or random.SystemRandom())
    router = APIRouter(tags=["chat"])

    @router.get("/chat/{project_id}", include_in_schema=False)
    def chat(request: Request, project_id: Id, actor: Annotator) -> Response:
        """The page on which one talks."""
        project = _talking(guard_of(request).project_now(actor, project_id))
        return page("chat.html", actor=actor, project=project, compare=_compares(project))

    _add_talking(router, desk)
    _add_annotating(router, desk)
    return router


def _add_talking(router: APIRouter, desk: Desk) -> None:
    @router.post("/api/chat/{project_id}/open")
    async def open_talk(request: Request, project_id: Id, given: OpenIn, actor: Annotator) -> dict[str, Any]:
        """The talk as it stands, or the next one; `talk` is null when there is nothing left."""
        project = _talking(await guard_of(request).project(actor, project_id))
        talk = await desk.resumed(project, actor, given.presentation_id) if given.presentation_id else None
        talk = talk or await desk.next(project, actor)
        return {"talk": talk_out(talk, project) if talk else None}

    @router.post("/api/chat/{project_id}/say", responses={200: {"content": {"text/event-stream": {}}}})
    async def say(request: Request, project_id: Id, given: SayIn, actor: Annotator) -> Response:
        """Say something; the answers come as server-sent events.

        {"slot", "text"} is more of an answer, {"slot", "stop"} its end, {"slot", "error"} that there is none; the last
        event is {"turn_id"} (to be annotated), {"said": true} (a red-team talk goes on), or {"failed": true}, with an
        "error" where all was said but could not be kept.
        """
        project = _talking(await guard_of(request).project(actor, project_id))
        talk = await desk.of(project, actor, given.presentation_id)
        await asyncio.to_thread(desk.store.renew, talk.presentation.id, actor.person.id)
        desk.check_may_say(talk)
        names = desk.draw(project, talk)
        return Answering(desk, talk, talk.asking(given.text), names)


def _add_annotating(router: APIRouter, desk: Desk) -> None:
    @router.post("/api/chat/{project_id}/annotate", status_code=201)
    async def annotate(request: Request, project_id: Id, given: AnnotateIn, actor: Annotator) -> dict[str, Any]:
        """Keep the annotation of a turn; the reply comes after it is on the disk."""
        project = _talking(await guard_of(request).project(actor, project_id), TaskMode.CHAT)
        talk = await desk.of(project, actor, given.presentation_id)
        says = {"choice": given.choice}
        event = await desk.kept_before(project, actor, given, EventKind.CHAT_TURN, says)
        if event is None:
            event = await desk.annotate(actor, talk, given)
        elif talk.pending is not None and talk.pending.id == given.turn_id and talk.claimed != given.key:
            raise used_key()  # of an earlier turn
        talk = await desk.retold(project, actor, talk)
        return {"seq": event.seq, "talk": talk_out(talk, project)}

    @router.post("/api/chat/{project_id}/undo", status_code=201)
    async def undo(request: Request, project_id: Id, given: TakeBackIn, actor: Annotator) -> dict[str, Any]:
        """Take back the last annotation of a talk: its turn waits again, with the same answers."""
        project = _talking(await guard_of(request).project(actor, project_id), TaskMode.CHAT)
        talk = await desk.of(project, actor, given.presentation_id)
        if talk.busy:
            raise Refused(409, "the models are writing", now="Wait for them, or stop them.")
        event = await desk.kept_before(project, actor, given, EventKind.UNDO, {})
        if event is None:
            event = await desk.undo_last(actor, talk, given.key)
        undone = event.undone_seq
        talk = await desk.retold(project, actor, talk)
        talk.pending = await desk.turn_of(project, actor, undone) if undone else None
        await desk.keep(talk)
        return {"seq": event.seq, "undone_seq": undone, "talk": talk_out(talk, project)}

    @router.post("/api/chat/{project_id}/rate", status_code=201)
    async def rate(request: Request, project_id: Id, given: RateIn, actor: Annotator) -> dict[str, Any]:
        """Keep how far a red-team talk got; the talk ends with it."""
        project = _talking(await guard_of(request).project(actor, project_id), TaskMode.RED_TEAM)
        says = {"reached": given.reached, "note": given.note}
        event = await desk.kept_before(project, actor, given, EventKind.RED_TEAM, says)
        if event is None:
            talk = await desk.of(project, actor, given.presentation_id)
            if talk.turns == 0 or talk.busy:
                raise Refused(409, "there is nothing to rate yet", now="Talk with the model first, or skip the item.")
            payload = {
                "conversation": conversation_to_json(Conversation(messages=talk.messages)),
                "reached": given.reached, "note": given.note, "model": talk.model, "sampling": dict(talk.sampling),
            }  # fmt: skip
            event = await desk.submit(actor, given, EventKind.RED_TEAM, payload)
        desk.talks.drop(given.presentation_id)
        return {"seq": event.seq, "kind": str(event.kind)}


def talk_out(talk: Talk, project: Project) -> dict[str, Any]:
    """A talk as its annotator may see it: no model's name."""
    new, pending = talk.presentation.item.new, talk.pending
    return {
        "presentation_id": talk.presentation.id, "mode": str(talk.mode),
        "compare": _compares(project), "messages": conversation_to_json(Conversation(messages=talk.messages)),
        "suggestion": talk.suggestion, "turns": talk.turns, "can_undo": bool(talk.annotated), "busy": talk.busy,
        "topic": new.topic, "sensitive": new.sensitive or talk.mode is TaskMode.RED_TEAM,
        "guideline_version": talk.presentation.guideline_version,
        "pending": None if pending is None else {
            "turn_id": pending.id, "message": pending.conversation.messages[-1].content,
            "shown": [{"text": side.text, "stop": str(side.stop)} for side in pending.sides],
        },
    }  # fmt: skip


def _compares(project: Project) -> bool:
    return project.settings.mode is TaskMode.CHAT and len(set(project.settings.endpoints)) > 1


def _talking(project: Project, mode: TaskMode | None = None) -> Project:
    """The project, if people talk in it. Refused (409) otherwise."""
    if project.settings.mode not in ((mode,) if mode else _MODES):
        what = "this project asks for something else than this kind of talk"
        raise Refused(409, what, now="Open it from the start page.")
    return project
