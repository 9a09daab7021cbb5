"""Talking with models and judging them: one model, two blind ones side by side, or one to draw harm out of.

The models are the project's endpoints; the page never learns their names or addresses. An answer reaches the page while
it is written, and the server keeps it, so that what is judged is what the model said.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from assent.errors import StoreError
from assent.feedback.records import Answer, Event, EventKind, Project, TaskMode, conversation_to_json
from assent.feedback.store.store import FeedbackStore
from assent.seeds import python_rng
from assent.studio.chat_schemas import JudgeIn, OpenIn, RateIn, SayIn, TakeBackIn
from assent.studio.error_page import not_found
from assent.studio.schemas import Id
from assent.studio.security import Actor, Annotator, guard_of
from assent.studio.settings import StudioSettings
from assent.studio.talks import MOST_TURNS, Side, Talk, Talks, Turn, fresh, new_id, recalled, retold, state_of, unjudged
from assent.studio.templates import page
from assent.studio.upstream import Upstream, UpstreamError, Written
from assent.types import Conversation, StopReason
from assent.web.refused import Refused

TEMPERATURE = 0.8
_MODES = (TaskMode.CHAT, TaskMode.RED_TEAM)
_MOST_AT_ONCE = 64  # turns that are being written, for all people together
_EVENTS_BACK = 500
_HIGHEST_SEED = 2**31 - 1
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def chat_router(
    store: FeedbackStore,
    settings: StudioSettings,
    *,
    upstream: Upstream | None = None,
    lots: random.Random | None = None,
) -> APIRouter:
    """The page and routes of talking; `lots` draws who answers on which side."""
    models = upstream or Upstream(settings.endpoints, environment=os.environ)
    desk = _Desk(store, models, lots or random.SystemRandom())
    router = APIRouter(tags=["chat"])
    _add_page(router)
    _add_talking(router, desk)
    _add_judging(router, desk)
    return router


def _add_page(router: APIRouter) -> None:
    @router.get("/chat/{project_id}", include_in_schema=False)
    def chat(request: Request, project_id: Id, actor: Annotator) -> Response:
        """The page on which one talks."""
        project = _talking(guard_of(request).project_now(actor, project_id))
        return page("chat.html", actor=actor, project=project, compare=_compares(project))


def _add_talking(router: APIRouter, desk: _Desk) -> None:
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
        event is {"turn_id"} (to be judged), {"said": true} (a red-team talk goes on), or {"failed": true}, with an
        "error" where all was said but could not be kept.
        """
        project = _talking(await guard_of(request).project(actor, project_id))
        talk = await desk.of(project, actor, given.presentation_id)
        await asyncio.to_thread(desk.store.renew, talk.presentation.id, actor.person.id)
        desk.check_may_say(talk)
        names = desk.draw(project, talk)
        return _Answering(desk, talk, talk.asking(given.text), names)


def _add_judging(router: APIRouter, desk: _Desk) -> None:
    @router.post("/api/chat/{project_id}/judge", status_code=201)
    async def judge(request: Request, project_id: Id, given: JudgeIn, actor: Annotator) -> dict[str, Any]:
        """Keep the judgement of a turn; the reply comes after it is on the disk."""
        project = _talking(await guard_of(request).project(actor, project_id), TaskMode.CHAT)
        talk = await desk.of(project, actor, given.presentation_id)
        says = {"choice": given.choice}
        event = await desk.kept_before(project, actor, given, EventKind.CHAT_TURN, says)
        if event is None:
            event = await desk.judge(actor, talk, given)
        elif talk.pending is not None and talk.pending.id == given.turn_id and talk.claimed != given.key:
            raise _used_key()  # of an earlier turn
        talk = await desk.retold(project, actor, talk)
        return {"seq": event.seq, "talk": talk_out(talk, project)}

    @router.post("/api/chat/{project_id}/undo", status_code=201)
    async def undo(request: Request, project_id: Id, given: TakeBackIn, actor: Annotator) -> dict[str, Any]:
        """Take back the last judgement of a talk: its turn waits again, with the same answers."""
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


class _Desk:
    """The talks, their store and their models."""

    def __init__(self, store: FeedbackStore, models: Upstream, lots: random.Random) -> None:
        self.store, self.models, self.talks = store, models, Talks()
        self._lots, self.writing = lots, 0

    async def next(self, project: Project, actor: Actor) -> Talk | None:
        """A talk about the next item, None where there is none."""
        given = await asyncio.to_thread(lambda: self.store.lease(project.id, actor.person.id))
        if not given:
            return None
        return self.talks.get(given[0].id) or self.talks.keep(await self._found(project, actor, given[0].id))

    async def resumed(self, project: Project, actor: Actor, presentation_id: str) -> Talk | None:
        """The talk a page remembers, None where it is over or was never theirs."""
        try:
            talk = await self.of(project, actor, presentation_id)
        except Refused:
            return None
        alive = await asyncio.to_thread(self.store.renew, presentation_id, actor.person.id)
        return talk if alive or talk.judged else None

    async def of(self, project: Project, actor: Actor, presentation_id: str) -> Talk:
        """The person's own talk. Refused (404) where there is none."""
        talk = self.talks.get(presentation_id)
        if talk is None:
            talk = self.talks.keep(await self._found(project, actor, presentation_id))
        shown = talk.presentation
        if shown.person_id != actor.person.id or shown.item.project_id != project.id:
            raise not_found("there is no such talk")
        return talk

    async def _found(self, project: Project, actor: Actor, presentation_id: str) -> Talk:
        shown = await asyncio.to_thread(self.store.presentation, presentation_id, actor.person.id)
        if shown is None or shown.item.project_id != project.id:
            raise not_found("there is no such talk")
        red = project.settings.mode is TaskMode.RED_TEAM
        talk = fresh(shown, TaskMode.RED_TEAM) if red else retold(shown, await self._latest(project, actor))
        return recalled(talk, await asyncio.to_thread(self.store.pending_talk, presentation_id, actor.person.id))

    async def keep(self, talk: Talk) -> None:
        """Put what of the talk is no event yet on the disk."""
        shown = talk.presentation
        await asyncio.to_thread(self.store.save_pending_talk, shown.id, shown.person_id, state_of(talk))

    async def retold(self, project: Project, actor: Actor, talk: Talk) -> Talk:
        """The talk as the store has it now; nothing waits."""
        return self.talks.keep(retold(talk.presentation, await self._latest(project, actor)))

    async def _latest(self, project: Project, actor: Actor) -> list[Event]:
        return await asyncio.to_thread(
            lambda: self.store.events(project.id, person_id=actor.person.id, limit=_EVENTS_BACK, newest_first=True)
        )

    async def kept_before(
        self,
        project: Project,
        actor: Actor,
        given: JudgeIn | RateIn | TakeBackIn,
        kind: EventKind,
        says: Mapping[str, Any],
    ) -> Event | None:
        """The event that this request made already. Refused (409) where its key stands for something else."""
        event = next((event for event in await self._latest(project, actor) if event.key == given.key), None)
        if event is None:
            return None
        shown = await asyncio.to_thread(self.store.presentation, given.presentation_id, actor.person.id)
        same = shown is not None and shown.item.id == event.item_id and kind is event.kind
        if not same or any(event.payload.get(name) != value for name, value in says.items()):
            raise _used_key()
        return event

    async def submit(self, actor: Actor, given: JudgeIn | RateIn, kind: EventKind, payload: Mapping[str, Any]) -> Event:
        """Keep an answer; durable when it returns."""
        answer = Answer(
            key=given.key, presentation_id=given.presentation_id, kind=kind, payload=payload,
            time_taken_ms=given.time_taken_ms,
        )  # fmt: skip
        return await asyncio.wrap_future(self.store.submit(actor.person.id, answer))

    async def judge(self, actor: Actor, talk: Talk, given: JudgeIn) -> Event:
        """Keep the judgement of the turn that waits; one turn is judged once, however many requests say so."""
        turn = talk.pending
        if turn is None or turn.id != given.turn_id or talk.claimed not in ("", given.key):
            now = "Load the page again."
            raise Refused(409, "this turn does not wait for a judgement", where="turn_id", now=now)
        if len(turn.sides) == 1 and given.choice not in ("a", "both_bad"):
            raise Refused(422, "one answer alone is good (a) or bad (both_bad)", where="choice")
        talk.claimed = given.key
        try:
            event = await self.submit(actor, given, EventKind.CHAT_TURN, turn.payload(given.choice, talk.turns + 1))
            talk.pending = None
            return event
        finally:
            talk.claimed = ""

    async def undo_last(self, actor: Actor, talk: Talk, key: str) -> Event:
        """Take back the last judgement of the talk."""
        if not talk.judged:
            raise Refused(409, "there is nothing to take back in this talk")
        return await asyncio.wrap_future(self.store.undo(actor.person.id, talk.judged[-1], key))

    async def turn_of(self, project: Project, actor: Actor, seq: int) -> Turn | None:
        """The turn of a judgement, to be judged again."""
        events = await self._latest(project, actor)
        return next((unjudged(event) for event in events if event.seq == seq), None)

    def check_may_say(self, talk: Talk) -> None:
        """Refused while the models write, at the end of a long talk, and where too many talk."""
        if talk.busy:
            raise Refused(409, "the models are still writing", now="Wait for them, or stop them.")
        if talk.pending is not None:
            raise Refused(409, "the last answers wait for a judgement", now="Judge them first.")
        if talk.turns >= MOST_TURNS:
            raise Refused(409, f"a talk has at most {MOST_TURNS} turns", now="End it and begin the next.")
        if self.writing >= _MOST_AT_ONCE:
            raise Refused(503, "many people are talking at this moment", now="Try again in a few seconds.")

    def draw(self, project: Project, talk: Talk) -> tuple[str, ...]:
        """Who answers, by slot: two drawn by lot, or one that stays the same for a whole red-team talk."""
        names = [name for name in dict.fromkeys(project.settings.endpoints) if name in self.models]
        if not names:
            now = "An admin names them in the project's settings; the studio's settings give their addresses."
            raise Refused(409, "no model is set up for this project", now=now)
        if talk.mode is TaskMode.RED_TEAM:
            return (python_rng(0, talk.presentation.id).choice(names),)
        return tuple(self._lots.sample(names, 2)) if len(names) > 1 else (names[0],)

    def sampling(self) -> dict[str, float]:
        """How one answer is asked for; the seed tells two answers apart."""
        return {"temperature": TEMPERATURE, "seed": self._lots.randint(0, _HIGHEST_SEED)}


class _Answering(StreamingResponse):
    """The answers to one message, both sides as they come; the talk is busy until it ends, however it ends."""

    def __init__(self, desk: _Desk, talk: Talk, conversation: Conversation, names: tuple[str, ...]) -> None:
        super().__init__(self._events(), media_type="text/event-stream", headers=_HEADERS)
        self._desk, self._talk, self._conversation, self._names = desk, talk, conversation, names
        self._samplings = [desk.sampling() for _ in names]
        self._texts = ["" for _ in names]
        self._stops: list[StopReason | None] = [None for _ in names]
        talk.busy = True
        desk.writing += 1

    async def __call__(self, *arguments: Any) -> None:
        """Send."""
        try:
            await super().__call__(*arguments)
        finally:
            self._talk.busy = False
            self._desk.writing -= 1

    async def _events(self) -> AsyncIterator[bytes]:
        told: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        writers = [asyncio.create_task(self._write(slot, told)) for slot in range(len(self._names))]
        try:
            for _ in writers:
                while (event := await told.get()) is not None:
                    yield _event(event)
            yield _event(await self._settle())
        finally:
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)

    async def _write(self, slot: int, told: asyncio.Queue[dict[str, Any] | None]) -> None:
        try:
            stream = self._desk.models.write(self._names[slot], self._conversation, self._samplings[slot])
            async for written in stream:
                self._take(slot, written, told)
        except UpstreamError as error:
            told.put_nowait({"slot": slot, "error": {"what": error.what, "now": error.now}})
        finally:
            told.put_nowait(None)

    def _take(self, slot: int, written: Written, told: asyncio.Queue[dict[str, Any] | None]) -> None:
        if written.text:
            self._texts[slot] += written.text
            told.put_nowait({"slot": slot, "text": written.text})
        if written.stop is not None:
            self._stops[slot] = written.stop
            told.put_nowait({"slot": slot, "stop": str(written.stop)})

    async def _settle(self) -> dict[str, Any]:
        """What all answers together mean for the talk; on the disk before the page learns of it."""
        sides = tuple(
            Side(endpoint=name, text=text, stop=stop, sampling=sampling)
            for name, text, stop, sampling in zip(self._names, self._texts, self._stops, self._samplings, strict=True)
            if stop is not None
        )
        if len(sides) < len(self._names):
            return {"failed": True}
        talk = self._talk
        before = replace(talk)
        if talk.mode is TaskMode.RED_TEAM:
            talk.messages = self._conversation.then(sides[0].text).messages
            talk.model, talk.sampling = sides[0].endpoint, sides[0].sampling
        else:
            talk.pending = Turn(id=new_id(), conversation=self._conversation, sides=sides)
        try:
            await self._desk.keep(talk)
        except StoreError as error:
            talk.messages, talk.pending = before.messages, before.pending
            talk.model, talk.sampling = before.model, before.sampling
            return {"failed": True, "error": {"what": error.what, "now": error.now}}
        return {"said": True} if talk.pending is None else {"turn_id": talk.pending.id}


def talk_out(talk: Talk, project: Project) -> dict[str, Any]:
    """A talk as its annotator may see it: no model's name."""
    new, pending = talk.presentation.item.new, talk.pending
    return {
        "presentation_id": talk.presentation.id, "mode": str(talk.mode),
        "compare": _compares(project), "messages": conversation_to_json(Conversation(messages=talk.messages)),
        "suggestion": talk.suggestion, "turns": talk.turns, "can_undo": bool(talk.judged), "busy": talk.busy,
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
        raise Refused(
            409, "this project asks for something else than this kind of talk", now="Open it from the start page."
        )
    return project


def _used_key() -> Refused:
    return Refused(409, "this key was used for something else", where="key", now="Send what is new with a new key.")


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
