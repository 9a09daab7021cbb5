"""What the answers of a project say about their quality: agreement, control items, repeats, refusals, cost.

Counters (progress) are exact and cheap. What needs the answers themselves is read from at most MOST_ANSWERS of them,
in a thread of its own, and kept until answers have come: a page never waits for it.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from assent.feedback.bias import mean_share, pairs_told_alike, position_bias_of, slot_of_best, speed_of
from assent.feedback.consensus import gold_event
from assent.feedback.pair_agreement import PairAgreement, opinions_of, pair_agreement
from assent.feedback.records import Event, EventKind, Judged, Project, TaskMode
from assent.feedback.resampling import Estimate, Resampling
from assent.feedback.source import PAGE, all_judged
from assent.feedback.store import FeedbackStore
from assent.feedback.votes import Worth, worth_of

MOST_ANSWERS = 20_000
WINDOWS = 20  # parts of a larger project that are read instead of the whole
HOURS = 48
_MOST_RECENT = 10_000  # events looked at for the pace when the studio starts
_PATIENCE_S = 0.6  # that a first look at a page waits for its figures
_REST = 4.0  # times as long as the counting took pass before it is done again
_RESAMPLING = Resampling(resamples=600)
COMPARING = frozenset({TaskMode.RANKING, TaskMode.PAIRWISE, TaskMode.RATING, TaskMode.GOOD_BAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The answers to questions that serve one purpose; `decided` is the share of pairs that were no tie."""

    answers: int
    median_s: float
    decided: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """See the module. `useful` counts judgements that training can use, `spent_s` the time of all answers.

    `gold` and `repeats` are shares of pairs told like the known answer and like one's own earlier answer; `habits`
    names what is unusual about a person: a liking for the first place, great haste.
    """

    agreement: PairAgreement
    gold: Estimate
    gold_by_person: Mapping[int, Estimate]
    repeats: Estimate
    repeats_by_person: Mapping[int, Estimate]
    habits: Mapping[int, str]
    skips: Mapping[str, int]
    flags: Mapping[str, int]
    arms: Mapping[str, Arm]
    useful: int
    spent_s: float
    median_s: float | None
    whole: bool  # whether every answer was read


class FigureKeeper:
    """Figures by project, counted in the background when answers have come."""

    def __init__(self, store: FeedbackStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._kept: dict[int, tuple[int, float, Figures]] = {}  # newest event, not before, figures
        self._counting: dict[int, Future[Figures]] = {}
        self._lock = threading.Lock()

    def figures(self, project: Project, newest: int) -> Figures | None:
        """The figures, possibly of a few seconds ago; None while they are being counted for the first time."""
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

    def _count(self, project: Project, newest: int) -> Figures:
        began = self._clock()
        answers = self._store.progress(project.id).answers
        whole = answers <= MOST_ANSWERS
        read = all_judged(self._store, project.id) if whole else _windows(self._store, project.id)
        found = figures_of(read, project, whole=whole)
        ended = self._clock()
        with self._lock:
            self._kept[project.id] = (newest, ended + _REST * (ended - began), found)
        return found


def figures_of(read: Iterable[Judged], project: Project, *, whole: bool = True) -> Figures:
    """The figures over the items in `read`."""
    tally = _Tally(project=project)
    opinions = []
    for judged in read:
        tally.add(judged)
        if project.settings.mode in COMPARING and judged.item.new.gold is None:
            opinions.append(opinions_of(judged))
    return Figures(
        agreement=pair_agreement(opinions, _RESAMPLING),
        gold=_pooled(tally.gold),
        gold_by_person={person: mean_share(shares, _RESAMPLING) for person, shares in tally.gold.items()},
        repeats=_pooled(tally.repeats),
        repeats_by_person={person: mean_share(shares, _RESAMPLING) for person, shares in tally.repeats.items()},
        habits=tally.habits(),
        skips=tally.skips,
        flags=tally.flags,
        arms=tally.arms(),
        useful=tally.useful,
        spent_s=tally.spent_ms / 1000,
        median_s=statistics.median(tally.times) / 1000 if tally.times else None,
        whole=whole,
    )


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


@dataclass(slots=True)
class _Tally:
    """Counts over items, one after the other."""

    project: Project
    gold: dict[int, list[float]] = field(default_factory=dict)
    repeats: dict[int, list[float]] = field(default_factory=dict)
    slots: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    paces: list[tuple[int, int, float]] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    useful: int = 0
    spent_ms: int = 0
    times: list[int] = field(default_factory=list)
    by_arm: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)  # milliseconds, pairs, decided ones

    def add(self, judged: Judged) -> None:
        """Take one item with its answers."""
        count, comparing = len(judged.item.new.candidates), self.project.settings.mode in COMPARING
        control = gold_event(judged) if comparing else None
        known = worth_of(control, count) if control else {}
        first: dict[int, Worth] = {}
        for event in judged.events:
            self.spent_ms += event.time_taken_ms
            if event.kind in (EventKind.SKIP, EventKind.FLAG):
                refused, reason = (self.skips, "reason") if event.kind is EventKind.SKIP else (self.flags, "flag")
                refused[str(event.payload.get(reason, "other"))] += 1
                continue
            self.times.append(event.time_taken_ms)
            if event.time_taken_ms:
                self.paces.append((event.person_id, judged.item.id, event.time_taken_ms))
            worth = worth_of(event, count) if comparing else {}
            if event.repeat:
                _note(self.repeats, event.person_id, pairs_told_alike(first.get(event.person_id, {}), worth))
            elif judged.item.new.gold is not None:
                _note(self.gold, event.person_id, pairs_told_alike(known, worth, decided=True))
            else:
                self.useful += 1
                self.by_arm.setdefault(judged.item.new.serves, []).append((event.time_taken_ms, *_decided(worth)))
            if comparing:
                self._remember(event, worth, first)

    def arms(self) -> dict[str, Arm]:
        """The answers by what their items serve."""
        found = {}
        for name, rows in sorted(self.by_arm.items()):
            pairs = sum(row[1] for row in rows)
            found[name] = Arm(
                answers=len(rows),
                median_s=statistics.median(row[0] for row in rows) / 1000,
                decided=sum(row[2] for row in rows) / pairs if pairs else None,
            )
        return found

    def habits(self) -> dict[int, str]:
        """What is unusual about whom."""
        found: dict[int, list[str]] = {}
        for bias in position_bias_of(self.slots):
            if bias.verdict:
                found.setdefault(bias.person_id, []).append(bias.verdict)
        for pace in speed_of(self.paces):
            if pace.verdict:
                found.setdefault(pace.person_id, []).append(pace.verdict)
        return {person: ", ".join(words) for person, words in found.items()}

    def _remember(self, event: Event, worth: Worth, first: dict[int, Worth]) -> None:
        slot = slot_of_best(event)
        if slot is not None:
            self.slots.setdefault(event.person_id, []).append((slot, len(event.order)))
        if worth and not event.repeat:
            first.setdefault(event.person_id, worth)


def _decided(worth: Worth) -> tuple[int, int]:
    values = list(worth.values())
    pairs = len(values) * (len(values) - 1) // 2
    ties = sum(n * (n - 1) // 2 for n in Counter(values).values())
    return pairs, pairs - ties


def _count(counts: Counter[int], events: Iterable[Event]) -> None:
    for event in events:
        counts[int(event.created_at // 3600)] += -1 if event.kind is EventKind.UNDO else 1


def _note(shares: dict[int, list[float]], person: int, share: float | None) -> None:
    if share is not None:
        shares.setdefault(person, []).append(share)


def _pooled(shares: Mapping[int, list[float]]) -> Estimate:
    return mean_share([share for one in shares.values() for share in one], _RESAMPLING)
