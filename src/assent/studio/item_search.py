"""Items as operators look for them: filtered page by page, bounded in what one look may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assent.feedback.records import AnsweredItem, Event, EventKind, Item, Project, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.studio import wording

MOST_SHOWN = 50
MOST_READ = 3_000
_PAGE = 250
STATES = (
    ("", "any"),
    ("open", "open"),
    ("finished", "finished"),
    ("untouched", "without answers"),
    ("flagged", "flagged"),
    ("skipped", "skipped"),
    ("disagreed", "people disagree"),
    ("control", "control items"),
    ("withdrawn", "withdrawn"),
)
PURPOSES = (("", "anything"), ("reward_model", "the reward model"), ("policy", "the policy"), ("random", "random arm"))
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to look for; empty fields let everything through. `text` is matched without regard to case."""

    text: str = ""
    state: str = ""
    topic: str = ""
    batch: str = ""
    serves: str = ""

    @property
    def any(self) -> bool:
        """Whether anything is asked for."""
        return any((self.text, self.state, self.topic, self.batch, self.serves))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page: `next` is the item after which to look on (0: that was all), `seen` how many items were read."""

    rows: tuple[Mapping[str, Any], ...]
    next: int
    seen: int


def search(store: FeedbackStore, project: Project, wanted: Filter, *, after: int = 0) -> Found:
    """Items after the item `after` that fit, by number; at most MOST_SHOWN, among at most MOST_READ."""
    rows: list[Mapping[str, Any]] = []
    seen = 0
    while seen < MOST_READ:
        page = store.items(project.id, after=after, limit=_PAGE)
        events = {answered.item.id: answered.events for answered in _answered(store, project.id, page)}
        for item in page:
            seen, after = seen + 1, item.id
            given = events.get(item.id, ())
            if _fits(item, given, wanted, project):
                rows.append(_row(item, given, project))
            if len(rows) == MOST_SHOWN:
                return Found(rows=tuple(rows), next=after, seen=seen)
        if len(page) < _PAGE:
            return Found(rows=tuple(rows), next=0, seen=seen)
    return Found(rows=tuple(rows), next=after, seen=seen)


def answers_to(store: FeedbackStore, item: Item) -> tuple[Event, ...]:
    """The standing answers to one item."""
    page = store.answered_items(item.project_id, after_item=item.id - 1, limit=1)
    return page[0].events if page and page[0].item.id == item.id else ()


def why_covered(item: Item, events: tuple[Event, ...], project: Project) -> str:
    """Why an item's texts are covered until somebody asks for them, in words; empty where they need not be."""
    if project.settings.mode is TaskMode.RED_TEAM:
        return "Here people try to draw out harmful text"
    if item.new.sensitive:
        return "This item is marked as sensitive"
    if any(event.kind is EventKind.FLAG and event.payload.get("flag") == "harmful" for event in events):
        return "Somebody flagged this item as harmful"
    return ""


def marks_of(item: Item, events: tuple[Event, ...], project: Project) -> list[tuple[str, str]]:
    """(words, tone) of what is to be known about an item at a glance."""
    kinds = Counter(event.kind for event in events)
    marks = []
    if item.withdrawn:
        marks.append(("withdrawn", "warn"))
    elif item.new.control_answer is None and _people(events) >= _wanted(item, project):
        marks.append(("finished", ""))
    if kinds[EventKind.FLAG]:
        marks.append(("flagged", "bad"))
    if kinds[EventKind.SKIP]:
        marks.append((wording.counted(kinds[EventKind.SKIP], "skip"), ""))
    if _disagreed(events):
        marks.append(("disagreement", "warn"))
    if item.new.control_answer is not None:
        marks.append(("control", ""))
    if item.new.sensitive:
        marks.append(("sensitive", ""))
    return marks


def told(event: Event) -> str:
    """An answer in words; completions are letters in canonical order."""
    payload = event.payload
    if event.kind is EventKind.RANKING:
        by_rank: dict[int, list[str]] = {}
        for letter, rank in zip(_LETTERS, payload["ranks"], strict=False):
            by_rank.setdefault(rank, []).append(letter)
        return " > ".join(" = ".join(by_rank[rank]) for rank in sorted(by_rank))
    if event.kind is EventKind.PAIRWISE:
        strength = int(payload["strength"])
        how = ("", "slightly ", "", "much ")[abs(strength)]
        return f"{'A' if strength < 0 else 'B'} is {how}better" if strength else "A = B"
    if event.kind is EventKind.MODEL_PREFERENCE:
        p = float(payload["probability"])
        return f"AI says {'A' if p > 0.5 else 'B'}, {max(p, 1 - p):.2f}" if p != 0.5 else "AI says A = B"
    if event.kind is EventKind.RATING:
        return "; ".join(f"{name}: {_listed(values)}" for name, values in payload["ratings"].items())
    if event.kind is EventKind.GOOD_BAD:
        words = {True: "good", False: "bad", None: wording.NOTHING}
        return ", ".join(f"{letter} {words[good]}" for letter, good in zip(_LETTERS, payload["good"], strict=False))
    if event.kind is EventKind.CHAT_TURN:
        return {"a": "A", "b": "B", "tie": "A = B", "both_bad": "both bad"}.get(str(payload.get("choice")), "one reply")
    if event.kind is EventKind.RED_TEAM:
        return f"reached {payload['reached']} of 10. {payload.get('note', '')}".strip()
    if event.kind in (EventKind.FLAG, EventKind.SKIP):
        reason = str(payload.get("flag") or payload.get("reason")).replace("_", " ")
        return f"{reason}. {payload.get('note') or ''}".strip(" .")
    return str(payload.get("text", ""))


def letter(position: int) -> str:
    """The letter of a completion by its canonical position."""
    return _LETTERS[position] if position < len(_LETTERS) else str(position + 1)


def _listed(values: object) -> str:
    if not isinstance(values, list):
        return str(values)
    told = (wording.NOTHING if value is None else value for value in values)
    return ", ".join(f"{name} {value}" for name, value in zip(_LETTERS, told, strict=False))


def _answered(store: FeedbackStore, project_id: int, page: list[Item]) -> Iterator[AnsweredItem]:
    """The answers to a page of items: answered items are some of them, in the same order."""
    if page:
        last = page[-1].id
        for answered in store.answered_items(project_id, after_item=page[0].id - 1, limit=len(page)):
            if answered.item.id <= last:
                yield answered


def _fits(item: Item, events: tuple[Event, ...], wanted: Filter, project: Project) -> bool:
    new, text = item.new, wanted.text.casefold()
    fixed = ((wanted.topic, new.topic), (wanted.batch, new.batch), (wanted.serves, new.serves))
    if any(asked and asked.casefold() != has.casefold() for asked, has in fixed):
        return False
    said = (*(message.content for message in new.prompt.messages), *(one.text for one in new.candidates))
    holds = not text or any(text in part.casefold() for part in said)
    return holds and _in_state(item, events, wanted.state, project)


def _in_state(item: Item, events: tuple[Event, ...], state: str, project: Project) -> bool:
    finished = _people(events) >= _wanted(item, project)
    kinds = {event.kind for event in events}
    return {
        "": True,
        "open": not finished and not item.withdrawn,
        "finished": finished and not item.withdrawn,
        "untouched": not events,
        "flagged": EventKind.FLAG in kinds,
        "skipped": EventKind.SKIP in kinds,
        "disagreed": _disagreed(events),
        "control": item.new.control_answer is not None,
        "withdrawn": item.withdrawn,
    }.get(state, True)


def _wanted(item: Item, project: Project) -> int:
    return item.new.overlap or project.settings.overlap


def _people(events: tuple[Event, ...]) -> int:
    return len({event.person_id for event in events if not event.repeat})


def _disagreed(events: tuple[Event, ...]) -> bool:
    """Whether two people gave opposite answers of the kinds that can be opposite."""
    signs: set[str] = set()
    for event in events:
        if event.kind is EventKind.PAIRWISE and event.payload["strength"]:
            signs.add("first" if event.payload["strength"] < 0 else "second")
        elif event.kind is EventKind.RANKING:
            ranks = event.payload["ranks"]
            signs.add(str([place for place, rank in enumerate(ranks) if rank == min(ranks)]))
    return len(signs) > 1


def _row(item: Item, events: tuple[Event, ...], project: Project) -> dict[str, Any]:
    new, answers = item.new, wording.count(_people(events))
    if new.control_answer is None:
        answers = f"{_people(events)}\u00a0of\u00a0{_wanted(item, project)}"
    row = {"id": item.id, "prompt": wording.excerpt(new.prompt.last_user_text) or "(no prompt)", "topic": new.topic}
    row |= {"covered": bool(why_covered(item, events, project)), "marks": marks_of(item, events, project)}
    return row | {"answers": answers}
