"""What the answers of a project say about their quality, counted in a thread of its own: a page never waits for it.

Most of it is `feedback.statistics`, kept up to date event by event. Alpha and the habits of single people need whole
answers: they are read from at most MOST_ANSWERS of them, evenly spread where there are more.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from assent.feedback.bias import position_bias_of, slot_of_best, speed_of
from assent.feedback.pair_agreement import opinions_of, pair_alpha
from assent.feedback.records import Event, EventKind, Judged, Project, TaskMode
from assent.feedback.resampling import Estimate, Resampling
from assent.feedback.source import PAGE, all_judged
from assent.feedback.statistics import Figures, LiveFigures
from assent.feedback.store import FeedbackStore

MOST_ANSWERS = 20_000
WINDOWS = 20  # parts of a larger project that are read instead of the whole
HOURS = 48
_MOST_RECENT = 10_000  # events looked at for the pace when the studio starts
_PATIENCE_S = 0.6  # that a first look at a page waits for its figures
_REST = 4.0  # times as long as the counting took pass before it is done again
_RESAMPLING = Resampling(resamples=600)
COMPARING = frozenset({TaskMode.RANKING, TaskMode.PAIRWISE, TaskMode.RATING, TaskMode.GOOD_BAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """A project's figures, Krippendorff's alpha over pairs, and what is unusual about whom."""

    figures: Figures
    alpha: Estimate
    habits: Mapping[int, str]  # by person: a liking for the first place, great haste


class FigureKeeper:
    """Insights by project, counted in the background when answers have come."""

    def __init__(self, store: FeedbackStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._live = LiveFigures(store)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._kept: dict[int, tuple[int, float, Insight]] = {}  # newest event, not before, what was found
        self._counting: dict[int, Future[Insight]] = {}
        self._lock = threading.Lock()

    def insight(self, project: Project, newest: int) -> Insight | None:
        """What is known, possibly of a few seconds ago; None while it is being counted for the first time."""
        with self._lock:
            kept = self._kept.get(project.id)
            if kept is not None and (kept[0] == newest or kept[1] > self._clock()):
                return kept[2]
            counting = self._counting.get(project.id)
            if counting is None or counting.done():
                counting = self._counting[project.id] = self._threads.submit(self._count, project, newest)
        if kept is not None:
            return kept[2]
        try:
            return counting.result(timeout=_PATIENCE_S)
        except TimeoutError:
            return None

    def _count(self, project: Project, newest: int) -> Insight:
        began = self._clock()
        figures = self._live.of(project.id)
        read: Iterable[Judged] = ()
        if project.settings.mode in COMPARING:
            whole = figures.answers <= MOST_ANSWERS
            read = all_judged(self._store, project.id) if whole else _windows(self._store, project.id)
        alpha, habits = _of_answers(read)
        found = Insight(figures=figures, alpha=alpha, habits=habits)
        ended = self._clock()
        with self._lock:
            self._kept[project.id] = (newest, ended + _REST * (ended - began), found)
        return found


class Pace:
    """Answers by the hour: counted back once, then kept up to date with what is new."""

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store
        self._kept: dict[int, tuple[int, int, Counter[int]]] = {}  # newest event, earliest hour known, answers by hour
        self._lock = threading.Lock()

    def hours(self, project_id: int, now: float) -> list[tuple[int, int]]:
        """(start in seconds since the epoch, answers) of the last HOURS hours with this one, the oldest first."""
        this = int(now // 3600)
        with self._lock:
            newest, earliest, counts = self._kept.get(project_id) or self._counted_back(project_id)
            while page := self._store.events(project_id, after=newest, limit=PAGE):
                _count(counts, page)
                newest = page[-1].seq
            self._kept[project_id] = (newest, earliest, counts)
            first = max(this - HOURS + 1, earliest)
            return [(hour * 3600, max(0, counts[hour])) for hour in range(first, this + 1)]

    def _counted_back(self, project_id: int) -> tuple[int, int, Counter[int]]:
        counts: Counter[int] = Counter()
        latest = self._store.events(project_id, limit=_MOST_RECENT, newest_first=True)
        _count(counts, latest)
        cut = len(latest) == _MOST_RECENT  # the hour in which the reading stopped is not whole
        earliest = int(latest[-1].created_at // 3600) + 1 if cut else 0
        return (latest[0].seq if latest else 0), earliest, counts


def newest_event(store: FeedbackStore, project_id: int) -> int:
    """The number of the project's latest event, 0 where there is none."""
    latest = store.events(project_id, limit=1, newest_first=True)
    return latest[0].seq if latest else 0


def _windows(store: FeedbackStore, project_id: int) -> Iterator[Judged]:
    """Items from evenly spread places of a large project, each once."""
    first = store.judged(project_id, limit=1)[0].item.id
    last = max(
        (event.item_id or first for event in store.events(project_id, limit=200, newest_first=True)), default=first
    )
    step = max(PAGE, (last - first) // WINDOWS)
    seen = 0
    for start in range(first - 1, last, step):
        for judged in store.judged(project_id, after_item=max(start, seen), limit=PAGE):
            seen = judged.item.id
            yield judged


def _of_answers(read: Iterable[Judged]) -> tuple[Estimate, dict[int, str]]:
    """Alpha, and habits by person."""
    opinions = []
    slots: dict[int, list[tuple[int, int]]] = {}
    paces: list[tuple[int, int, float]] = []
    for judged in read:
        if judged.item.new.gold is None:
            opinions.append(opinions_of(judged))
        for event in judged.events:
            if event.kind in (EventKind.SKIP, EventKind.FLAG):
                continue
            if event.time_taken_ms:
                paces.append((event.person_id, judged.item.id, event.time_taken_ms))
            slot = slot_of_best(event)
            if slot is not None:
                slots.setdefault(event.person_id, []).append((slot, len(event.order)))
    habits: dict[int, list[str]] = {}
    verdicts = [(one.person_id, one.verdict) for one in position_bias_of(slots)]
    for person, verdict in [*verdicts, *((one.person_id, one.verdict) for one in speed_of(paces))]:
        if verdict:
            habits.setdefault(person, []).append(verdict)
    return pair_alpha(opinions, _RESAMPLING), {person: ", ".join(words) for person, words in habits.items()}


def _count(counts: Counter[int], events: Iterable[Event]) -> None:
    for event in events:
        counts[int(event.created_at // 3600)] += -1 if event.kind is EventKind.UNDO else 1
