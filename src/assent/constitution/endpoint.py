"""A chat model behind an OpenAI-compatible address: many calls at once, a rate limit, retries with backoff."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import Field

from assent.config import Settings
from assent.constitution.chat_model import Written
from assent.errors import BackendError, ConfigError
from assent.feedback.records import conversation_to_json
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import Progress, silent
from assent.types import Conversation, StopReason

_STOPS = {"stop": StopReason.END, "length": StopReason.LENGTH, "content_filter": StopReason.ERROR}
_REFUSED, _BUSY = (400, 413, 422), (408, 409, 425, 429)
_LONGEST_PAUSE_S, _FIRST_PAUSE_S = 60.0, 1.0
_LOOK_EVERY_S = 0.2  # how soon a stop request is noticed
_SEEDS = 1 << 31
_SHOWN = 200


class EndpointOptions(Settings):
    """How an address is asked. `model` may be empty where the server has only one; `key_env` names the variable with
    the key; `requests_per_minute` 0 sets no limit."""

    model: str = ""
    key_env: str = ""
    concurrency: int = Field(default=8, ge=1, le=256)
    requests_per_minute: int = Field(default=0, ge=0)
    timeout_s: float = Field(default=120.0, gt=0)
    retries: int = Field(default=6, ge=0)


class _GivenUpError(Exception):
    """Another call has failed, or somebody asked to stop."""


class Endpoint:
    """The chat completions of one address (".../v1"). Close it after use. Safe for many threads."""

    def __init__(
        self,
        url: str,
        options: EndpointOptions,
        *,
        key: str = "",
        pause: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._options, self._clock = url.rstrip("/"), options, clock
        self._stopped, self._lock, self._next = threading.Event(), threading.Lock(), 0.0
        self._pause = pause or self._stopped.wait
        self._gives_logprobs = True
        self._client = httpx.Client(
            timeout=options.timeout_s, headers={"Authorization": f"Bearer {key}"} if key else {}, trust_env=False
        )
        try:
            self.model = options.model or self._only_model()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._stopped.set()
        self._client.close()

    def write(
        self, requests: Sequence[GenerationRequest], *, progress: Progress = silent
    ) -> Iterator[tuple[int, Written]]:
        """Answers as they come, `concurrency` calls at once; after an error those under way still come, then it."""
        failure: BaseException | None = None
        with ThreadPoolExecutor(self._options.concurrency) as pool, self._given_up_on_error():
            places = {pool.submit(self._answer, request): place for place, request in enumerate(requests)}
            for future in _finished(places, progress):
                error = future.exception()
                if error is None:
                    yield places[future], future.result()
                    progress(1)
                elif not isinstance(error, _GivenUpError):
                    failure = error
        if failure is not None:
            raise failure

    @contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        """No further call is made once the block has failed."""
        try:
            yield
        except BaseException:
            self._stopped.set()
            raise

    def _answer(self, request: GenerationRequest) -> Written:
        with self._given_up_on_error():
            return self._asked(request)

    def _asked(self, request: GenerationRequest) -> Written:
        asks_logprobs = request.sampling.top_logprobs is not None
        while True:
            with_logprobs = asks_logprobs and self._gives_logprobs
            response = self._sent("POST", "/chat/completions", self._body(request, with_logprobs=with_logprobs))
            if isinstance(response, Mapping):
                return _written(response)
            if with_logprobs and "logprob" in response.lower():
                self._gives_logprobs = False  # ask again without them
                continue
            return Written(text="", stop=StopReason.ERROR, problem=response)

    def _body(self, request: GenerationRequest, *, with_logprobs: bool) -> dict[str, Any]:
        sampling = request.sampling
        assert isinstance(request.prompt, Conversation)
        body: dict[str, Any] = {
            "model": self.model, "messages": conversation_to_json(request.prompt), "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens, "seed": request.seed % _SEEDS,
        }  # fmt: skip
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if with_logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        return body

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any] | str:
        """What the server answers, or its reason for refusing this one request. Raises BackendError, ConfigError."""
        problem = ""
        for attempt in range(self._options.retries + 1):
            if self._stopped.is_set():
                raise _GivenUpError
            self._wait_for_turn()
            least = 0.0
            try:
                response = self._client.request(method, self._url + path, json=body)
            except httpx.TimeoutException:
                problem = f"no answer within {self._options.timeout_s:g} s"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = f"cannot be reached ({type(error).__name__}: {error})"
            else:
                if response.status_code == 200 and (document := _document(response, body is not None)) is not None:
                    return document
                if response.status_code in _REFUSED:
                    return f"status {response.status_code}: {response.text[:_SHOWN]}"
                problem = f"status {response.status_code}" if response.status_code != 200 else "an unreadable answer"
                if response.status_code not in (200, *_BUSY) and response.status_code < 500:
                    now = "Check the address, endpoint.model and endpoint.key_env."
                    raise ConfigError(f"{problem}: {response.text[:_SHOWN]}", where=self._url + path, now=now)
                least = _retry_after(response)
            if attempt < self._options.retries:
                self._back_off(attempt, least)
        what = f"{problem}; tried {self._options.retries + 1} times"
        now = "All answers so far are kept: look at the server, then go on with --resume."
        raise BackendError(what, where=self._url + path, now=now)

    def _wait_for_turn(self) -> None:
        """Calls are spread evenly over the minute; a busy server delays all of them."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            rate = self._options.requests_per_minute
            self._next = start + (60.0 / rate if rate else 0.0)
        if start > now:
            self._pause(start - now)

    def _back_off(self, attempt: int, least: float) -> None:
        """Double the pause each time, with jitter, so that the calls do not come back together."""
        doubled = _FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0)
        self._pause(min(_LONGEST_PAUSE_S, max(least, doubled)))

    def _only_model(self) -> str:
        answer = self._sent("GET", "/models")
        names = [one.get("id") for one in answer.get("data") or ()] if isinstance(answer, Mapping) else []
        if len(names) != 1 or not isinstance(names[0], str):
            listed = ", ".join(map(str, names[:8])) or "none"
            raise ConfigError(f"which model? The server has: {listed}", where=self._url, now="Set endpoint.model=NAME.")
        return names[0]


def _finished(waiting: Iterable[Future[Written]], progress: Progress) -> Iterator[Future[Written]]:
    """The calls as they end; `progress` is called in between, so that a stop request is noticed."""
    pending = set(waiting)
    while pending:
        done, pending = wait(pending, timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
        yield from done
        progress(0)


def _document(response: httpx.Response, is_chat: bool) -> Mapping[str, Any] | None:
    """The JSON of an answer; None for half a JSON, or one without an answer."""
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    if is_chat:
        try:
            content = document["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            return None
        if not isinstance(content, str | None):
            return None
    return document


def _written(document: Mapping[str, Any]) -> Written:
    choice, usage = document["choices"][0], document.get("usage") or {}
    stop = _STOPS.get(str(choice.get("finish_reason")), StopReason.END)
    counts = {
        name: value if isinstance(value := usage.get(name), int) else 0
        for name in ("prompt_tokens", "completion_tokens")
    }
    return Written(
        text=choice["message"]["content"] or "", stop=stop, likeliest=_likeliest(choice), **counts,
        problem="the server's filter stopped the answer" if stop is StopReason.ERROR else "",
    )  # fmt: skip


def _likeliest(choice: Mapping[str, Any]) -> tuple[dict[str, float], ...]:
    """The likeliest tokens of each place; nothing where the server gives none, or something else."""
    try:
        return tuple(
            {str(one["token"]): float(one["logprob"]) for one in token["top_logprobs"]}
            for token in choice["logprobs"]["content"]
            if token["top_logprobs"]
        )
    except (KeyError, TypeError, ValueError):
        return ()


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
