"""A step sampler without a model, and endpoints that really listen, for tests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from assent.errors import DataError
from assent.ports.sampling import GenerationRequest, Prepared, PromptTooLong, SampledToken, StreamChunk, TokenLogprob
from assent.seeds import python_rng
from assent.types import StopReason

MOST_TOKENS = 64


class WordStepper:
    """Says words drawn by the seed, a word a token; "echo" repeats the last message, "never" does not end by itself.

    `gate` can be closed to hold every step back, `page` to hold back the reading of prompts that start with "long";
    `widths` and `dropped` say what happened. Prompts that fail: "refuse" and "unreadable" when they are read,
    "unbeginnable" when they begin, "break" and "heavy" in every step, "illegible" when the step is looked at; "crowd"
    only beside others. While `broken`, nothing works.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.hold_at = -1  # the step before which the gate closes by itself
        self.widths: list[int] = []
        self.dropped: set[int] = set()
        self.page = threading.Event()
        self.page.set()
        self.broken = False
        self.read: list[str] = []
        self._lines: dict[int, tuple[Prepared, list[str]]] = {}

    def prepare(self, asked: GenerationRequest) -> Prepared:
        """A token per word."""
        text = self._text(asked)
        self.read.append(text)
        if text.startswith("long"):
            self.page.wait(10)
        if text == "refuse":
            raise DataError("this prompt cannot be used")
        if text == "unreadable":
            raise TypeError("read badly on purpose")
        ids = tuple(range(len(text.split())))
        limit = asked.max_tokens or MOST_TOKENS
        if len(ids) + limit > 2 * MOST_TOKENS:
            raise PromptTooLong("the prompt is too long")
        return Prepared(asked=asked, prompt_ids=ids, max_tokens=limit)

    def begin(self, completions: Mapping[int, Prepared]) -> None:
        """From the next step on."""
        for key, prepared in completions.items():
            text = self._text(prepared.asked)
            if text == "unbeginnable":
                raise ValueError("begun badly on purpose")
            rng = python_rng(prepared.asked.seed, "words")
            words = [f"{rng.choice(['red', 'green', 'blue'])} " for _ in range(MOST_TOKENS)]
            words = words if text == "never" else words[: 3 + prepared.asked.seed % 5]
            self._lines[key] = prepared, [f"{word} " for word in text.split()[1:]] if text.startswith("echo") else words

    def step(self, keys: Collection[int]) -> None:
        """A word more."""
        if len(self.widths) == self.hold_at:
            self.gate.clear()
        self.gate.wait(10)
        self.check()
        texts = [self._text(self._lines[key][0].asked) for key in keys]
        if "break" in texts or ("crowd" in texts and len(texts) > 1):
            raise RuntimeError("broken on purpose")
        if "heavy" in texts:
            raise MemoryError("too heavy on purpose")
        self.widths.append(len(keys))

    def take(self, key: int) -> StreamChunk:
        """The word."""
        if self._text(self._lines[key][0].asked) == "illegible":
            raise KeyError("written badly on purpose")
        return self._next(key)

    def check(self) -> None:
        """Works unless `broken`."""
        if self.broken:
            raise RuntimeError("broken for good")

    def drop(self, keys: Collection[int]) -> None:
        """Forget."""
        self.dropped |= set(keys)
        for key in keys:
            self._lines.pop(key, None)

    def _next(self, key: int) -> StreamChunk:
        prepared, words = self._lines[key]
        if not words:
            del self._lines[key]
            return StreamChunk(stop=StopReason.END)
        word, rest = words[0], words[1:]
        full = prepared.max_tokens == 1
        self._lines[key] = Prepared(asked=prepared.asked, prompt_ids=(), max_tokens=prepared.max_tokens - 1), rest
        if full:
            del self._lines[key]
        chance = TokenLogprob(id=0, text=word, utf8=word.encode(), logp=-1.0)
        token = SampledToken(chosen=chance, top_logprobs=(chance,) * prepared.asked.top_logprobs)
        return StreamChunk(text=word, tokens=(token,), stop=StopReason.LENGTH if full else None)

    @staticmethod
    def _text(asked: GenerationRequest) -> str:
        return asked.prompt if isinstance(asked.prompt, str) else asked.prompt.messages[-1].content


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The application on a free port of this machine; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2, lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
