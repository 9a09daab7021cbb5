"""What the answers of a project say about their quality, counted in a thread of its own: a page never waits for it.

Most of it is `feedback.quality.statistics`, kept up to date event by event. Agreement and the habits of single people
need whole answers: those of `answered_sample`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from assent.feedback.annotation_source import PAGE
from assent.feedback.quality.bias import position_bias, slot_of_best, speed
from assent.feedback.quality.live_figures import LiveFigures, worth_keeping
from assent.feedback.quality.project_agreement import ItemOpinions, ProjectAgreement, item_opinions, project_agreement
from assent.feedback.quality.resampling import Resampling
from assent.feedback.records import AnsweredItem, Event, EventKind, Project, TaskMode
from assent.feedback.store.answered_sample import answered_sample
from assent.feedback.store.store import FeedbackStore
from assent.studio.figures_file import Counted, Insight, load_counted, save_counted

_FILE = "figures-{}.json"
HOURS = 48
_MOST_RECENT = 10_000  # events looked at for the pace when the studio starts
_PATIENCE_S = 0.6  # that a first look at a page waits for its figures
_REST = 4.0  # times as long as the counting took pass before it is done again
_RESAMPLING = Resampling(resamples=600)
_REFUSALS = frozenset({EventKind.SKIP, EventKind.FLAG})
COMPARING = frozenset({TaskMode.RANKING, TaskMode.PAIRWISE, TaskMode.RATING, TaskMode.GOOD_BAD})


class FigureKeeper:
    """Insights by project, counted in the background when answers have come.

    Beside a store that is a file it keeps what it counted, for the next start (`figures_file`, `tally_files`).
    """

    def __init__(self, store: FeedbackStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._live = LiveFigures(store, file_of=lambda project_id: store.sibling_path(f"figures-{project_id}.npz"))
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._kept: dict[int, tuple[Counted, float]] = {}  # what was found, not to be counted again before
        self._written: dict[int, int] = {}  # how many events the file's figures are of; a project not asked of: absent
        self._counting: dict[int, Future[Insight]] = {}
        self._lock = threading.Lock()

    def insight(self, project: Project, newest: int) -> tuple[Insight | None, bool]:
        """What is known, and whether the event `newest` is in it; None while the first answers are being counted."""
        with self._lock:
            if project.id not in self._written:
                path = self._store.sibling_path(_FILE.format(project.id))
                counted = load_counted(self._store, project.id, path) if path is not None else None
                self._written[project.id] = counted.insight.figures.events if counted else 0
                if counted is not None:
                    self._kept[project.id] = (counted, 0.0)
            kept, not_before = self._kept.get(project.id, (None, 0.0))
            same = kept is not None and kept.cost_per_hour == project.settings.cost_per_hour
            if kept is not None and same and (kept.seq >= newest or not_before > self._clock()):
                return _known(kept, newest)
            counting = self._counting.get(project.id)
            if counting is None or counting.done():
                counting = self._counting[project.id] = self._threads.submit(self._count, project)
        if kept is not None and same and kept.seq:
            return _known(kept, newest)
        try:
            counting.result(timeout=_PATIENCE_S)
        except TimeoutError:
            return None, False
        return _known(self._kept[project.id][0], newest)

    def _count(self, project: Project) -> Insight:
        began = self._clock()
        figures = self._live.of(project.id)
        seq, sha256 = self._live.head(project.id)
        read: Iterable[AnsweredItem] = ()
        if project.settings.mode in COMPARING:
            read = answered_sample(self._store, project.id, answers=figures.answers)
        agreement, habits = _of_answers(read)
        found = Insight(figures=figures, agreement=agreement, habits=habits)
        rate = project.settings.cost_per_hour
        counted = Counted(seq=seq, sha256=sha256, cost_per_hour=rate, insight=found)
        ended = self._clock()
        with self._lock:
            self._kept[project.id] = (counted, ended + _REST * (ended - began))
        path = self._store.sibling_path(_FILE.format(project.id))
        if path is not None and seq and worth_keeping(figures.events, self._written[project.id]):
            self._written[project.id] = figures.events
            save_counted(counted, path)
        return found


def _known(kept: Counted, newest: int) -> tuple[Insight | None, bool]:
    """Figures of no answers at all say nothing once there are some."""
    fresh = kept.seq >= newest
    return kept.insight if fresh or kept.seq else None, fresh


class Pace:
    """Standing answers by the hour in which they were given: counted back once, then kept up to date."""

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
                self._count(counts, page)
                newest = page[-1].seq
            self._kept[project_id] = (newest, earliest, counts)
            first = max(this - HOURS + 1, earliest)
            return [(hour * 3600, max(0, counts[hour])) for hour in range(first, this + 1)]

    def _counted_back(self, project_id: int) -> tuple[int, int, Counter[int]]:
        counts: Counter[int] = Counter()
        latest = self._store.events(project_id, limit=_MOST_RECENT, newest_first=True)
        self._count(counts, latest)
        cut = len(latest) == _MOST_RECENT  # the hour in which the reading stopped is not whole
        earliest = int(latest[-1].created_at // 3600) + 1 if cut else 0
        return (latest[0].seq if latest else 0), earliest, counts

    def _count(self, counts: Counter[int], events: Iterable[Event]) -> None:
        for event in events:
            sign = 1
            if event.undone_seq is not None:
                sign, (event,) = -1, self._store.events(event.project_id, after=event.undone_seq - 1, limit=1)
            if event.kind not in _REFUSALS:
                counts[int(event.created_at // 3600)] += sign


def newest_event(store: FeedbackStore, project_id: int) -> int:
    """The number of the project's latest event, 0 where there is none."""
    latest = store.events(project_id, limit=1, newest_first=True)
    return latest[0].seq if latest else 0


def _of_answers(read: Iterable[AnsweredItem]) -> tuple[ProjectAgreement, dict[int, str]]:
    """Agreement, and habits by person."""
    opinions: list[ItemOpinions] = []
    slots: dict[int, list[tuple[int, int]]] = {}
    paces: list[tuple[int, int, float]] = []
    for answered in read:
        if answered.item.new.control_answer is None:
            opinions.append(item_opinions(answered))
        for event in answered.events:
            if event.kind in _REFUSALS:
                continue
            if event.time_taken_ms:
                paces.append((event.person_id, answered.item.id, event.time_taken_ms))
            slot = slot_of_best(event)
            if slot is not None:
                slots.setdefault(event.person_id, []).append((slot, len(event.order)))
    habits: dict[int, list[str]] = {}
    verdicts = [(one.person_id, one.verdict) for one in position_bias(slots)]
    for person, verdict in [*verdicts, *((one.person_id, one.verdict) for one in speed(paces))]:
        if verdict:
            habits.setdefault(person, []).append(verdict)
    return project_agreement(opinions, _RESAMPLING), {person: ", ".join(words) for person, words in habits.items()}
