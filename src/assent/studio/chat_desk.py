"""The talks that people have with models: finding them, keeping them, annotating their turns, and who answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from assent.feedback.records import Answer, Event, EventKind, Project, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.seeds import python_rng
from assent.studio.chat_schemas import AnnotateIn, RateIn, TakeBackIn
from assent.studio.error_page import not_found
from assent.studio.security import Actor
from assent.studio.talks import MOST_TURNS, Talk, Talks, Turn, fresh, recalled, retold, state_of, to_annotate_again
from assent.studio.upstream import Upstream
from assent.web.refused import Refused

TEMPERATURE = 0.8
_MOST_AT_ONCE = 64  # turns that are being written, for all people together
_EVENTS_BACK = 500
_HIGHEST_SEED = 2**31 - 1


class Desk:
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
        return talk if alive or talk.annotated else None

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
        given: AnnotateIn | RateIn | TakeBackIn,
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
            raise used_key()
        return event

    async def submit(
        self, actor: Actor, given: AnnotateIn | RateIn, kind: EventKind, payload: Mapping[str, Any]
    ) -> Event:
        """Keep an answer; durable when it returns."""
        answer = Answer(
            key=given.key, presentation_id=given.presentation_id, kind=kind, payload=payload,
            time_taken_ms=given.time_taken_ms,
        )  # fmt: skip
        return await asyncio.wrap_future(self.store.submit(actor.person.id, answer))

    async def annotate(self, actor: Actor, talk: Talk, given: AnnotateIn) -> Event:
        """Keep the annotation of the turn that waits; one turn is annotated once, however many requests say so."""
        turn = talk.pending
        if turn is None or turn.id != given.turn_id or talk.claimed not in ("", given.key):
            now = "Load the page again."
            raise Refused(409, "this turn does not wait for an annotation", where="turn_id", now=now)
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
        """Take back the last annotation of the talk."""
        if not talk.annotated:
            raise Refused(409, "there is nothing to take back in this talk")
        return await asyncio.wrap_future(self.store.undo(actor.person.id, talk.annotated[-1], key))

    async def turn_of(self, project: Project, actor: Actor, seq: int) -> Turn | None:
        """The turn of an annotation, to be annotated again."""
        events = await self._latest(project, actor)
        return next((to_annotate_again(event) for event in events if event.seq == seq), None)

    def check_may_say(self, talk: Talk) -> None:
        """Refused while the models write, at the end of a long talk, and where too many talk."""
        if talk.busy:
            raise Refused(409, "the models are still writing", now="Wait for them, or stop them.")
        if talk.pending is not None:
            raise Refused(409, "the last answers wait for an annotation", now="Annotate them first.")
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


def used_key() -> Refused:
    """The refusal of a key that stands for something else."""
    return Refused(409, "this key was used for something else", where="key", now="Send what is new with a new key.")
