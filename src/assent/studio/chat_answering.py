"""The answers of models to one message as server-sent events, and what they mean for the talk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from starlette.responses import StreamingResponse

from assent.errors import StoreError
from assent.feedback.records import TaskMode
from assent.studio.chat_desk import Desk
from assent.studio.talks import Side, Talk, Turn, new_id
from assent.studio.upstream import UpstreamError
from assent.types import Conversation, StopReason

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Answering(StreamingResponse):
    """The answers to one message, both sides as they come; the talk is busy until it ends, however it ends."""

    def __init__(self, desk: Desk, talk: Talk, conversation: Conversation, names: tuple[str, ...]) -> None:
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
                self._texts[slot] += written.text
                self._stops[slot] = written.stop or self._stops[slot]
                if written.text:
                    told.put_nowait({"slot": slot, "text": written.text})
                if written.stop is not None:
                    told.put_nowait({"slot": slot, "stop": str(written.stop)})
        except UpstreamError as error:
            told.put_nowait({"slot": slot, "error": {"what": error.what, "now": error.now}})
        finally:
            told.put_nowait(None)

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


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
