"""Many requests, one model: a thread drives a `StepSampler`, requests join and leave between its steps.

Requests are taken in order of arrival. What does not fit beside the completions under way waits; more than
`most_waiting` requests are turned away. Everything about a request is told to its `Listener`, on the model's thread.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from assent.errors import DataError
from assent.ports.sampling import Asked, Piece, Prepared, StepSampler
from assent.seeds import derive


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The request is accepted: its prompt has so many tokens."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """One step of one of the request's choices (counted from 0)."""

    choice: int
    piece: Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request is over: its own mistake, or (None) the model's thread has ended."""

    error: DataError | None


Told = Started | Grown | Failed
Listener = Callable[[Told], None]


class QueueFull(Exception):
    """Too many requests wait."""


class QueueClosed(Exception):
    """No request is taken any more."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in the queue; `cancel` may be called from any thread, at any time."""

    asked: Asked
    count: int
    listener: Listener
    cancelled: bool = False
    prepared: Prepared | None = None
    keys: dict[int, int] = field(default_factory=dict)  # of completions under way: their choice

    def cancel(self) -> None:
        """Nobody listens any more."""
        self.cancelled = True


class WritingQueue:
    """The queue and its thread. At most `most_rows` completions are written side by side."""

    def __init__(self, sampler: StepSampler, *, most_rows: int, most_waiting: int) -> None:
        self.most_rows, self._most_waiting = most_rows, most_waiting
        self._sampler = sampler
        self._changed = threading.Condition()
        self._arrived: deque[Ticket] = deque()
        self._closing = False
        self._waiting: deque[Ticket] = deque()  # from here on for the model's thread only
        self._under_way: list[Ticket] = []
        self._next_key = itertools.count()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.on_end: Callable[[], None] = lambda: None
        self.largest_batch = 0  # completions that were ever written side by side

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._closing

    @property
    def length(self) -> int:
        """Requests that wait or are under way."""
        return len(self._arrived) + len(self._waiting) + len(self._under_way)

    def start(self) -> None:
        """Start the model's thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after its step; whoever still waits is told."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, asked: Asked, count: int, listener: Listener) -> Ticket:
        """Ask for `count` choices. Raises QueueFull or QueueClosed."""
        ticket = Ticket(asked, count, listener)
        with self._changed:
            if not self.is_open:
                raise QueueClosed
            if len(self._arrived) + len(self._waiting) >= self._most_waiting:
                raise QueueFull
            self._arrived.append(ticket)
            self._changed.notify()
        return ticket

    def _run(self) -> None:
        try:
            while self._take_arrived():
                self._drop_cancelled()
                self._begin_what_fits()
                self._step()
        finally:
            self._closing = True
            with self._changed:
                left = [*self._under_way, *self._waiting, *self._arrived]
                self._arrived.clear()
            for ticket in left:
                ticket.listener(Failed(error=None))
            self.on_end()

    def _take_arrived(self) -> bool:
        """Wait for work; False when the queue is closed."""
        with self._changed:
            while not (self._closing or self._arrived or self._waiting or self._under_way):
                self._changed.wait()
            arrived, self._arrived = list(self._arrived), deque()
            self._waiting.extend(arrived)
            closing = self._closing
        for ticket in arrived:
            self._prepare(ticket)
        return not closing

    def _prepare(self, ticket: Ticket) -> None:
        try:
            ticket.prepared = self._sampler.prepare(ticket.asked)
        except DataError as error:
            self._waiting.remove(ticket)
            ticket.listener(Failed(error=error))
            return
        ticket.listener(Started(prompt_tokens=len(ticket.prepared.prompt_ids)))

    def _drop_cancelled(self) -> None:
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
        gone = [ticket for ticket in self._under_way if ticket.cancelled]
        if gone:
            self._sampler.drop([key for ticket in gone for key in ticket.keys])
            self._under_way = [ticket for ticket in self._under_way if not ticket.cancelled]

    def _begin_what_fits(self) -> None:
        rows = sum(len(ticket.keys) for ticket in self._under_way)
        starting: dict[int, Prepared] = {}
        while self._waiting and rows + self._waiting[0].count <= self.most_rows:
            ticket = self._waiting.popleft()
            prepared = ticket.prepared
            assert prepared is not None
            rows += ticket.count
            for choice in range(ticket.count):
                key = next(self._next_key)
                ticket.keys[key] = choice
                seed = derive(ticket.asked.seed, choice)
                starting[key] = replace(prepared, asked=replace(ticket.asked, seed=seed))
            self._under_way.append(ticket)
        self.largest_batch = max(self.largest_batch, rows)
        if starting:
            self._sampler.begin(starting)

    def _step(self) -> None:
        if not self._under_way:
            return
        pieces = self._sampler.step()
        for ticket in self._under_way:
            for key, choice in list(ticket.keys.items()):
                piece = pieces[key]
                if piece.stop is not None:
                    del ticket.keys[key]
                ticket.listener(Grown(choice=choice, piece=piece))
        self._under_way = [ticket for ticket in self._under_way if ticket.keys]
