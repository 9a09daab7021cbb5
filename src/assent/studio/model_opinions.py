"""What models said of items, told to people only after they have answered: blind first, then shown."""

from __future__ import annotations

from collections.abc import Iterator

from assent.feedback.records import Event, EventKind
from assent.feedback.store.store import FeedbackStore
from assent.studio.threads import in_thread

_PAGE = 1000
_JUDGED = (EventKind.PAIRWISE, EventKind.RANKING)


class ModelOpinions:
    """The models' preferences of each project, read once and again after an upload."""

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store
        self._known: dict[int, dict[int, float]] = {}

    def forget(self, project_id: int) -> None:
        """There may be new ones."""
        self._known.pop(project_id, None)

    async def after(self, event: Event) -> tuple[int, float] | None:
        """The slot that a model prefers of the item just answered, and how surely; None if none did, or for a repeat.

        Slots are those in which the person saw the completions. A model that is in two minds has no preference.
        """
        if event.kind not in _JUDGED or event.repeat or event.item_id is None or len(event.order) != 2:
            return None
        if event.project_id not in self._known:
            self._known[event.project_id] = await in_thread(self._read, event.project_id)
        p = self._known[event.project_id].get(event.item_id, 0.5)
        return None if p == 0.5 else (event.order.index(0 if p > 0.5 else 1), max(p, 1 - p))

    def _read(self, project_id: int) -> dict[int, float]:
        found: dict[int, list[float]] = {}
        for person in self._store.members(project_id):
            if not person.active:  # a model's account is that of an import: nobody can sign in to it
                for event in self._preferences(project_id, person.id):
                    assert event.item_id is not None
                    found.setdefault(event.item_id, []).append(float(event.payload["probability"]))
        return {item: sum(said) / len(said) for item, said in found.items()}

    def _preferences(self, project_id: int, person_id: int) -> Iterator[Event]:
        after = 0
        while page := self._store.events(project_id, after=after, limit=_PAGE, person_id=person_id):
            yield from (event for event in page if event.kind is EventKind.MODEL_PREFERENCE)
            after = page[-1].seq
