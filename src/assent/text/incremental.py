"""The text of a completion while its tokens arrive: whole characters only, and no part of a stop sequence.

Joined, the pieces are the decoded text of all tokens, cut before the stop sequence that ends first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_WINDOW = 32  # ids decoded at a time; beyond that, decoding goes on from the last few
_CONTEXT = 4
_UNFINISHED = "\ufffd"  # what half a character decodes to


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """New text, how many tokens it (newly) touches, and whether a stop sequence ended the completion."""

    text: str
    tokens: int
    stopped: bool = False


class TextStream:
    """Takes ids one by one; `decode` turns a run of ids into text (if not `in_pieces`, only all ids from the first)."""

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stop_sequences: Sequence[str] = (), *, in_pieces: bool = True
    ) -> None:
        self._decode, self._stops, self._in_pieces = decode, tuple(stop_sequences), in_pieces
        self._ids: list[int] = []
        self._starts: list[int] = []  # where the text stood when each token came
        self._window, self._seen = 0, 0  # first id that is still decoded; characters of it that are in `_text`
        self._text, self._sent, self._tokens_sent = "", 0, 0

    def add(self, id_: int) -> Released:
        """The text that is settled now."""
        self._ids.append(id_)
        self._starts.append(len(self._text))
        fresh = self._decode(self._ids[self._window :])
        settled = fresh.rstrip(_UNFINISHED)
        if len(settled) > self._seen:
            self._text, self._seen = self._text + settled[self._seen :], len(settled)
        if self._in_pieces and len(self._ids) - self._window > _WINDOW and settled == fresh:
            context = self._decode(self._ids[-_CONTEXT:])
            if context and not context.endswith(_UNFINISHED):
                self._window, self._seen = len(self._ids) - _CONTEXT, len(context)
        return self._release(held=True)

    def close(self) -> Released:
        """All that was held back; the completion has ended by itself or at its limit."""
        fresh = self._decode(self._ids[self._window :]) if self._ids else ""
        self._text += fresh[self._seen :]
        self._seen = len(fresh)
        return self._release(held=False)

    def _release(self, *, held: bool) -> Released:
        found = [(self._text.find(stop, self._sent), len(stop)) for stop in self._stops]
        # the stop sequence that ends first; of several that end together, the longest
        stops = [(place + length, place) for place, length in found if place >= 0]
        stopped = bool(stops)
        until = min(stops)[1] if stopped else len(self._text) - (self._held() if held else 0)
        text, self._sent = self._text[self._sent : until], until
        before = self._tokens_sent
        while self._tokens_sent < len(self._ids) and (self._starts[self._tokens_sent] < until or not (held or stopped)):
            self._tokens_sent += 1
        return Released(text=text, tokens=self._tokens_sent - before, stopped=stopped)

    def _held(self) -> int:
        """How many of the last characters may be the beginning of a stop sequence."""
        for length in range(min(len(self._text) - self._sent, max(map(len, self._stops), default=1) - 1), 0, -1):
            tail = self._text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
