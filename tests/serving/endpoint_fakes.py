"""An engine without a model, and endpoints that really listen, for tests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from assent.errors import DataError
from assent.ports.generation import GenerationRequest, SampledToken, StreamChunk, TokenizedRequest, TokenLogprob
from assent.ports.sampling import PromptTooLong
from assent.seeds import derive, python_rng
from assent.types import StopReason

MOST_TOKENS = 64


class WordEngine:
    """Says words drawn by the seed, a word a token; "echo" repeats the last message, "never" does not end by itself.

    `gate` can be closed to hold every step back, `page` to hold back the reading of prompts that start with "long";
    `widths` and `aborted` say what happened. Prompts that fail: "refuse" and "unreadable" when they are read,
    "unaddable" when they are added, "break" and "heavy" in every step, "illegible" when the step is looked at; "crowd"
    only beside others. While `broken`, nothing works.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.hold_at = -1  # the step before which the gate closes by itself
        self.widths: list[int] = []
        self.aborted: set[int] = set()
        self.page = threading.Event()
        self.page.set()
        self.broken = False
        self.read: list[str] = []
        self._left: dict[int, tuple[TokenizedRequest, int, list[str]]] = {}  # request, tokens and words to come

    def tokenize(self, request: GenerationRequest) -> TokenizedRequest:
        """A token per word."""
        text = self._text(request)
        self.read.append(text)
        if text.startswith("long"):
            self.page.wait(10)
        if text == "refuse":
            raise DataError("this prompt cannot be used")
        if text == "unreadable":
            raise TypeError("read badly on purpose")
        ids = tuple(range(len(text.split())))
        limit = request.sampling.max_tokens or MOST_TOKENS
        if len(ids) + limit > 2 * MOST_TOKENS:
            raise PromptTooLong("the prompt is too long")
        request = replace(request, sampling=replace(request.sampling, max_tokens=limit))
        return TokenizedRequest(request=request, prompt_ids=ids)

    def add(self, request: TokenizedRequest, keys: Sequence[int]) -> None:
        """From the next step on."""
        text, limit = self._text(request.request), request.request.sampling.max_tokens
        if text == "unaddable":
            raise ValueError("added badly on purpose")
        for choice, key in enumerate(keys):
            seed = derive(request.request.seed, choice)
            rng = python_rng(seed, "words")
            words = [f"{rng.choice(['red', 'green', 'blue'])} " for _ in range(MOST_TOKENS)]
            words = words if text == "never" else words[: 3 + seed % 5]
            echo = [f"{word} " for word in text.split()[1:]]
            self._left[key] = request, limit, echo if text.startswith("echo") else words

    def step(self, keys: Collection[int]) -> None:
        """A word more."""
        if len(self.widths) == self.hold_at:
            self.gate.clear()
        self.gate.wait(10)
        self.check_health()
        texts = [self._text(self._left[key][0].request) for key in keys]
        if "break" in texts or ("crowd" in texts and len(texts) > 1):
            raise RuntimeError("broken on purpose")
        if "heavy" in texts:
            raise MemoryError("too heavy on purpose")
        self.widths.append(len(keys))

    def chunk(self, key: int) -> StreamChunk:
        """The word."""
        if self._text(self._left[key][0].request) == "illegible":
            raise KeyError("written badly on purpose")
        return self._next(key)

    def check_health(self) -> None:
        """Works unless `broken`."""
        if self.broken:
            raise RuntimeError("broken for good")

    def abort(self, keys: Collection[int]) -> None:
        """Forget."""
        self.aborted |= set(keys)
        for key in keys:
            self._left.pop(key, None)

    def _next(self, key: int) -> StreamChunk:
        request, limit, words = self._left.pop(key)
        if not words:
            return StreamChunk(stop=StopReason.END)
        if limit > 1:
            self._left[key] = request, limit - 1, words[1:]
        logprob = TokenLogprob(id=0, text=words[0], utf8=words[0].encode(), logp=-1.0)
        likeliest = request.request.sampling.top_logprobs
        tokens = () if likeliest is None else (SampledToken(chosen=logprob, top_logprobs=(logprob,) * likeliest),)
        return StreamChunk(text=words[0], tokens=tokens, stop=StopReason.LENGTH if limit == 1 else None)

    @staticmethod
    def _text(request: GenerationRequest) -> str:
        return request.prompt if isinstance(request.prompt, str) else request.prompt.messages[-1].content


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
