"""What a program needs to order a project's queue anew: its items whole, their priorities, a reward model's word."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from assent.feedback.records import MOST_COMPLETIONS, Item, conversation_to_json
from assent.feedback.store.store import FeedbackStore
from assent.studio.schemas import After, Id, Incoming, Limit, Number, OneId
from assent.studio.security import Admin

_MOST_ITEMS = 20_000
Scores = Annotated[list[Number], Field(max_length=MOST_COMPLETIONS)]


class PrioritiesIn(Incoming):
    """Places in the queue by item; the highest is asked first."""

    priority: Annotated[dict[OneId, Number], Field(max_length=_MOST_ITEMS)]


class PredictionsIn(Incoming):
    """A reward model's scores by item, one for each candidate in its order, in logits."""

    predicted: Annotated[dict[OneId, Scores], Field(max_length=_MOST_ITEMS)]


def queue_router(store: FeedbackStore) -> APIRouter:
    """The routes about the order of a queue."""
    router = APIRouter(tags=["queue"])

    @router.get("/api/projects/{project_id}/queue")
    def queued(project_id: Id, _: Admin, after: After = 0, limit: Limit = 1000) -> dict[str, Any]:
        """Items by number, without control items and withdrawn ones; `last` is where the next page begins, or null."""
        store.project(project_id)
        page = store.items(project_id, after=after, limit=limit)
        asked = [item for item in page if item.new.control_answer is None and not item.withdrawn]
        return {"items": [_item_out(item) for item in asked], "last": page[-1].id if len(page) == limit else None}

    @router.put("/api/projects/{project_id}/priorities")
    def set_priorities(project_id: Id, given: PrioritiesIn, _: Admin) -> dict[str, Any]:
        """Order the queue anew, all or nothing."""
        store.set_priorities(project_id, given.priority)
        return {"changed": len(given.priority)}

    @router.put("/api/projects/{project_id}/predictions")
    def set_predictions(project_id: Id, given: PredictionsIn, _: Admin) -> dict[str, Any]:
        """Say what a reward model thinks; with adaptive overlap, items whose labels contradict it are asked again."""
        store.set_predictions(project_id, given.predicted)
        return {"changed": len(given.predicted)}

    return router


def _item_out(item: Item) -> dict[str, Any]:
    candidates = [{"text": one.text, "stop": str(one.stop)} for one in item.new.candidates]
    return {
        "id": item.id, "key": item.new.key, "serves": item.new.serves, "priority": item.new.priority,
        "overlap": item.new.overlap, "predicted": item.new.predicted, "prompt": conversation_to_json(item.new.prompt),
        "candidates": candidates,
    }  # fmt: skip
