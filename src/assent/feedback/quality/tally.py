"""Events as columns: read once, kept up to date, summed in no time. 60 bytes an event, however long its texts are.

A judgement of K completions is kept as signs of its K (K - 1) / 2 pairs in the order (0,1), (0,2), ..., (1,2), ...:
1 the first is better, -1 the second, 0 a tie, NO_WORD where it says nothing. For each pair of an item the answers of
each sign are counted, so that agreement between people needs no look at single answers.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from assent.feedback.annotation_source import AnnotationSource, all_items
from assent.feedback.records import FLAGS, SKIP_REASONS, Event, EventKind, Item
from assent.feedback.votes import kind_of_payload, worth_of_payload

NO_WORD = 2
KINDS = tuple(EventKind)
REASONS = (*SKIP_REASONS, *FLAGS)
_JUDGING = {EventKind.RANKING, EventKind.PAIRWISE, EventKind.RATING, EventKind.GOOD_BAD, EventKind.MODEL_PREFERENCE}
_PAGE = 5000


@dataclass(slots=True)
class Columns:
    """One entry an event, in the order of their numbers."""

    seq: array[int] = field(default_factory=lambda: array("q"))
    person: array[int] = field(default_factory=lambda: array("q"))
    item: array[int] = field(default_factory=lambda: array("q"))  # place among the items, -1: none
    kind: array[int] = field(default_factory=lambda: array("b"))  # place in KINDS
    standing: array[int] = field(default_factory=lambda: array("b"))
    repeat: array[int] = field(default_factory=lambda: array("b"))
    reason: array[int] = field(default_factory=lambda: array("b"))  # place in REASONS, -1: none
    time_ms: array[int] = field(default_factory=lambda: array("q"))
    shown: array[int] = field(default_factory=lambda: array("b"))  # how many completions were shown
    best_slot: array[int] = field(default_factory=lambda: array("b"))  # where the single best one stood, -1: none
    control: array[float] = field(default_factory=lambda: array("d"))  # agreement with the known answer, nan: not known
    sign_at: array[int] = field(default_factory=lambda: array("q"))  # where the signs of its pairs begin
    sign_count: array[int] = field(default_factory=lambda: array("b"))


@dataclass(slots=True)
class Items:
    """One entry an item, by id."""

    id: array[int] = field(default_factory=lambda: array("q"))
    serves: array[int] = field(default_factory=lambda: array("b"))  # place among the words of `serves`
    is_control: array[int] = field(default_factory=lambda: array("b"))
    count: array[int] = field(default_factory=lambda: array("b"))  # completions
    cell_at: array[int] = field(default_factory=lambda: array("q"))  # where the counts of its pairs begin


class Tally:
    """A project's events in columns. `refresh` reads what is new; safe to use from several threads."""

    def __init__(self, source: AnnotationSource, project_id: int) -> None:
        """Nothing is read until `refresh`."""
        self.project_id = project_id
        self.columns, self.items = Columns(), Items()
        self.signs = array("b")
        self.cells = {sign: array("i") for sign in (1, -1, 0)}
        self.serves: list[str] = []
        self.lock = threading.RLock()
        self.control: dict[int, Sequence[int]] = {}  # signs of known answers by the item's place
        self.repeated: dict[int, Sequence[int]] = {}  # completions with the text of an earlier one, by the item's place
        self.last_sha256 = ""
        self._source = source

    def refresh(self) -> int:
        """Read all events that are new, and the items they speak of; how many events those were."""
        with self.lock:
            read, after = 0, self.last_seq
            while page := self._source.events(self.project_id, after=after, limit=_PAGE):
                known = self.items.id[-1] if self.items.id else 0
                if max((event.item_id or 0) for event in page) > known:
                    self._read_items(after=known)
                for event in page:
                    self._add(event)
                read, after = read + len(page), page[-1].seq
                self.last_sha256 = page[-1].sha256
            return read

    @property
    def last_seq(self) -> int:
        """The number of the newest event read; 0 before the first."""
        return self.columns.seq[-1] if self.columns.seq else 0

    def _read_items(self, *, after: int) -> None:
        for item in all_items(self._source, self.project_id, after=after):
            self._add_item(item)

    def _add_item(self, item: Item) -> None:
        if item.new.serves not in self.serves:
            self.serves.append(item.new.serves)
        count = len(item.new.candidates)
        self.items.id.append(item.id)
        self.items.serves.append(self.serves.index(item.new.serves))
        self.items.is_control.append(item.new.control_answer is not None)
        self.items.count.append(count)
        self.items.cell_at.append(len(self.cells[0]))
        for column in self.cells.values():
            column.extend([0] * (count * (count - 1) // 2))
        texts = [candidate.text.strip() for candidate in item.new.candidates]
        if len(set(texts)) < count:  # nobody can disagree about equal completions
            self.repeated[len(self.items.id) - 1] = [i for i, text in enumerate(texts) if text in texts[:i]]
        if item.new.control_answer is not None:
            self.control[len(self.items.id) - 1] = control_signs(item.new.control_answer, count)

    def _add(self, event: Event) -> None:
        if event.kind is EventKind.UNDO:
            self._take_back(event.undone_seq)
        place = -1 if event.item_id is None else bisect_left(self.items.id, event.item_id)
        place = place if 0 <= place < len(self.items.id) and self.items.id[place] == event.item_id else -1
        signs, best = self._signs(event, place)
        columns = self.columns
        columns.seq.append(event.seq)
        columns.person.append(event.person_id)
        columns.item.append(place)
        columns.kind.append(KINDS.index(event.kind))
        columns.standing.append(event.kind is not EventKind.UNDO)
        columns.repeat.append(event.repeat)
        reason = event.payload.get({EventKind.SKIP: "reason", EventKind.FLAG: "flag"}.get(event.kind, ""))
        columns.reason.append(REASONS.index(reason) if reason in REASONS else -1)
        columns.time_ms.append(event.time_taken_ms)
        columns.shown.append(len(event.order))
        columns.best_slot.append(best)
        columns.control.append(_agreement(signs, self.control.get(place, ())))
        columns.sign_at.append(len(self.signs))
        columns.sign_count.append(len(signs))
        self.signs.extend(signs)
        self._count(len(columns.seq) - 1, 1)

    def _signs(self, event: Event, place: int) -> tuple[list[int], int]:
        """The signs of the answer's pairs, and the slot in which the single best completion stood."""
        if event.kind is EventKind.CHAT_TURN:
            chosen = {"a": 0, "b": 1}.get(str(event.payload.get("choice")), -1)
            if chosen < 0 or event.payload.get("b") is None:
                return [], -1
            return [], event.order.index(chosen) if chosen in event.order else chosen
        if event.kind not in _JUDGING or place < 0:
            return [], -1
        count = self.items.count[place]
        worth = worth_of_payload(event.kind, event.payload, count) or {}
        top = max(worth.values(), default=0.0)
        best = [position for position, value in worth.items() if value == top]
        slot = event.order.index(best[0]) if len(best) == 1 and best[0] in event.order else -1
        if event.kind is EventKind.MODEL_PREFERENCE:
            slot = -1  # it saw both orders
        for position in self.repeated.get(place, ()):
            worth.pop(position, None)
        return signs_of(worth, count), slot

    def _take_back(self, undone_seq: int | None) -> None:
        row = bisect_left(self.columns.seq, undone_seq or 0)
        if row < len(self.columns.seq) and self.columns.seq[row] == undone_seq and self.columns.standing[row]:
            self._count(row, -1)
            self.columns.standing[row] = 0

    def _count(self, row: int, change: int) -> None:
        """Count the answer's signs in the cells of its item: not those of repeats and of control items."""
        place = self.columns.item[row]
        if place < 0 or self.columns.repeat[row] or self.items.is_control[place]:
            return
        start, at = self.items.cell_at[place], self.columns.sign_at[row]
        for offset in range(self.columns.sign_count[row]):
            sign = self.signs[at + offset]
            if sign != NO_WORD:
                self.cells[sign][start + offset] += change


def signs_of(worth: Mapping[int, float], count: int) -> list[int]:
    """The signs of all pairs of `count` completions."""
    signs = []
    for one, other in combinations(range(count), 2):
        if one in worth and other in worth:
            signs.append((worth[one] > worth[other]) - (worth[one] < worth[other]))
        else:
            signs.append(NO_WORD)
    return signs


def control_signs(control: Mapping[str, Any], count: int) -> list[int]:
    """The signs of a known answer; none for what compares nothing or cannot be read."""
    kind = kind_of_payload(control)
    return [] if kind is None else signs_of(worth_of_payload(kind, control, count) or {}, count)


def _agreement(signs: Sequence[int], control: Sequence[int]) -> float:
    """Mean agreement of the pairs on which both have a word; a tie against a preference is half."""
    both = [(one, other) for one, other in zip(signs, control, strict=False) if NO_WORD not in (one, other)]
    if not both:
        return float("nan")
    return sum(1.0 if one == other else 0.5 if 0 in (one, other) else 0.0 for one, other in both) / len(both)
