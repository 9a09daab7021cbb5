"""Many requests, one thread of the model: a second thread makes tokens of prompts. A request names its engine.

Requests join and leave between the model's steps. In each step the requests of one engine are one batch, and one engine
works after the other, so engines may share weights. What does not fit beside the completions under way waits; more than
`most_waiting` requests are turned away. A short prompt is tokenised before a long one that came earlier.

Whatever goes wrong with a request goes to its `Listener` and to nobody else. A step that fails is tried again for
each request alone: those that fail alone are over, the others go on. The model's thread ends only when the model cannot
write anything at all.
"""

from __future__ import annotations

import itertools
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from queue import PriorityQueue
from typing import ParamSpec, TypeVar

from assent.errors import AssentError, BackendError
from assent.ports.generation import GenerationEngine, GenerationRequest, StreamChunk, TokenizedRequest
from assent.ports.sampling import PromptTooLong

Given = ParamSpec("Given")
Result = TypeVar("Result")
_LOG = logging.getLogger("assent.serving")


class Fault(Enum):
    """Why a request is over before its end."""

    REQUEST = "the request cannot be used"
    TOO_LONG = "the prompt leaves no room"
    MEMORY = "the memory is not enough"
    MODEL = "the model failed"
    CLOSED = "the queue is closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceChunk:
    """What one step added to one of the request's choices (counted from 0)."""

    choice: int
    chunk: StreamChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """The request is over. `what` is for the client, `details` for the log."""

    fault: Fault
    what: str = ""
    details: str = ""


QueueEvent = ChoiceChunk | RequestFailed
Listener = Callable[[QueueEvent], None]


class QueueFull(Exception):
    """Too many requests wait."""


class QueueClosed(Exception):
    """No request is taken any more."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in the queue; `cancel` may be called from any thread, at any time."""

    engine: GenerationEngine
    request: GenerationRequest
    listener: Listener
    cancelled: bool = False
    tokenized: TokenizedRequest | None = None
    keys: dict[int, int] = field(default_factory=dict)  # of completions under way: their choice

    def cancel(self) -> None:
        """Nobody listens any more."""
        self.cancelled = True

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, once something has been written after it."""
        return len(self.tokenized.prompt_ids) if self.tokenized else 0


class GenerationQueue:
    """The queue and its threads. At most `most_rows` completions are written side by side."""

    def __init__(self, *, most_rows: int, most_waiting: int) -> None:
        self.most_rows, self._most_waiting = most_rows, most_waiting
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._untokenized: PriorityQueue[tuple[int, int, Ticket | None]] = PriorityQueue()
        self._tokenizing: set[Ticket] = set()  # waiting to be tokenised, or being tokenised
        self._arrived: deque[Ticket] = deque()
        self._closing = False
        self._waiting: deque[Ticket] = deque()  # from here on for the model's thread only
        self._under_way: list[Ticket] = []
        self._next_key = itertools.count()
        self._tokenizer = threading.Thread(target=self._tokenize, name="tokenizer", daemon=True)
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.on_end: Callable[[], object] = lambda: None

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and self._tokenizer.is_alive() and not self._closing

    @property
    def length(self) -> int:
        """Requests that wait or are under way."""
        return len(self._tokenizing) + len(self._arrived) + len(self._waiting) + len(self._under_way)

    def start(self) -> None:
        """Start the threads."""
        self._tokenizer.start()
        self._thread.start()

    def close(self) -> None:
        """End the threads, each after what it is doing; all who still wait hear of it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
            self._tokenizer.join()

    def submit(self, engine: GenerationEngine, request: GenerationRequest, listener: Listener) -> Ticket:
        """Ask an engine for completions. Raises QueueFull or QueueClosed."""
        ticket = Ticket(engine, request, listener)
        with self._changed:
            if not self.is_open:
                raise QueueClosed
            if len(self._tokenizing) + len(self._arrived) + len(self._waiting) >= self._most_waiting:
                raise QueueFull
            self._tokenizing.add(ticket)
        self._untokenized.put((request.characters, next(self._order), ticket))
        return ticket

    def _tokenize(self) -> None:
        """The tokenizer's thread: prompts become tokens while the model writes."""
        while (ticket := self._untokenized.get()[2]) is not None:
            found = None if ticket.cancelled else _attempt(ticket.engine.tokenize, ticket.request)
            with self._changed:
                self._tokenizing.discard(ticket)
                if isinstance(found, TokenizedRequest):
                    ticket.tokenized = found
                    self._arrived.append(ticket)
                    self._changed.notify()
            if isinstance(found, RequestFailed):
                _report(ticket, found)

    def _run(self) -> None:
        """The model's thread."""
        try:
            while self._take_arrived():
                for ticket in filter(attrgetter("cancelled"), self._under_way):
                    self._forget(ticket)
                self._under_way = [ticket for ticket in self._under_way if ticket.keys]
                self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
                self._add_what_fits()
                for engine in dict.fromkeys(ticket.engine for ticket in self._under_way):
                    self._step([ticket for ticket in self._under_way if ticket.engine is engine])
                self._under_way = [ticket for ticket in self._under_way if ticket.keys]
        finally:
            with self._changed:
                self._closing = True
                left = [*self._under_way, *self._waiting, *self._arrived, *self._tokenizing]
                self._arrived.clear()
                self._tokenizing.clear()
            self._untokenized.put((-1, -1, None))
            for ticket in left:
                ticket.listener(RequestFailed(fault=Fault.CLOSED))
            self.on_end()

    def _take_arrived(self) -> bool:
        """Wait for work; False when the queue is closed."""
        with self._changed:
            while not (self._closing or self._arrived or self._waiting or self._under_way):
                self._changed.wait()
            self._waiting.extend(self._arrived)
            self._arrived.clear()
            return not self._closing

    def _add_what_fits(self) -> None:
        rows = sum(len(ticket.keys) for ticket in self._under_way)
        while self._waiting and rows + self._waiting[0].request.n <= self.most_rows:
            ticket = self._waiting.popleft()
            rows += ticket.request.n
            ticket.keys = {next(self._next_key): choice for choice in range(ticket.request.n)}
            assert ticket.tokenized is not None
            failed = _attempt(ticket.engine.add, ticket.tokenized, list(ticket.keys))
            if isinstance(failed, RequestFailed):
                self._fail(ticket, failed)
            else:
                self._under_way.append(ticket)

    def _step(self, tickets: Sequence[Ticket]) -> None:
        """One token more for each ticket of an engine.

        After a failure each is tried alone; if none fails alone, the newest has to go.
        """
        engine = tickets[0].engine
        failed = _attempt(engine.step, [key for ticket in tickets for key in ticket.keys])
        if failed is None:
            for ticket in tickets:
                self._send_chunks(ticket)
        elif len(tickets) == 1:
            self._fail(tickets[0], failed)
            if failed.fault is Fault.MODEL:
                engine.check_health()
        else:
            for ticket in tickets:
                self._step([ticket])
            if all(ticket.keys for ticket in tickets):
                self._fail(tickets[-1], failed)

    def _send_chunks(self, ticket: Ticket) -> None:
        for key, choice in list(ticket.keys.items()):
            chunk = _attempt(ticket.engine.chunk, key)
            if isinstance(chunk, RequestFailed):
                self._fail(ticket, chunk)
                return
            if chunk.stop is not None:
                del ticket.keys[key]
            ticket.listener(ChoiceChunk(choice=choice, chunk=chunk))

    def _fail(self, ticket: Ticket, failed: RequestFailed) -> None:
        self._forget(ticket)
        _report(ticket, failed)

    def _forget(self, ticket: Ticket) -> None:
        ticket.engine.abort(list(ticket.keys))
        ticket.keys = {}


def _attempt(work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result | RequestFailed:
    """What `work` gives. This is the one place where an exception becomes the answer to a request."""
    try:
        return work(*given, **named)
    except PromptTooLong as error:
        return RequestFailed(fault=Fault.TOO_LONG, what=str(error))
    except MemoryError as error:
        return RequestFailed(fault=Fault.MEMORY, details=str(error))
    except BaseException as error:  # noqa: BLE001 (a tokenizer's panic is no Exception; signals never come to a thread)
        if isinstance(error, AssentError) and not isinstance(error, BackendError):
            return RequestFailed(fault=Fault.REQUEST, what=str(error))
        return RequestFailed(fault=Fault.MODEL, details="".join(traceback.format_exception(error)))


def _report(ticket: Ticket, failed: RequestFailed) -> None:
    if failed.details:
        _LOG.error("%s on one request: %s", failed.fault.value, failed.details)
    ticket.listener(failed)
