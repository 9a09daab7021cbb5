"""Asking the models behind the configured OpenAI-compatible addresses, and no others; text comes as it is written."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from assent.feedback.records import conversation_to_json
from assent.studio.settings import EndpointSettings
from assent.types import Conversation, StopReason

MOST_CHARACTERS = 40_000  # of one answer; what is longer is cut
_MOST_BYTES, _LONGEST_EVENT_BYTES, _MOST_ERROR_BYTES = 16 << 20, 1 << 20, 64 << 10
_TIMEOUT = httpx.Timeout(connect=5.0, read=90.0, write=10.0, pool=5.0)
_WHOLE_ANSWER_S = 600.0
_STOPS = {"stop": StopReason.END, "length": StopReason.LENGTH}
_LOG = logging.getLogger("assent.studio")
_TELL = "Try again; if it happens again, tell who runs the studio: its log has the details."


class UpstreamError(Exception):
    """A model gave no answer: `what` and `now` are for annotators and do not say which model it is."""

    def __init__(self, what: str, *, now: str = _TELL) -> None:
        super().__init__(what)
        self.what, self.now = what, now


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """More of an answer; `stop` comes with the last."""

    text: str = ""
    stop: StopReason | None = None


class Upstream:
    """The configured endpoints by name. Keys are read from the environment when they are needed and go nowhere else."""

    def __init__(
        self,
        endpoints: Mapping[str, EndpointSettings],
        *,
        environment: Mapping[str, str],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._endpoints, self._environment, self._transport = dict(endpoints), environment, transport

    def __contains__(self, name: str) -> bool:
        return name in self._endpoints

    async def write(self, name: str, said: Conversation, sampling: Mapping[str, float]) -> AsyncIterator[Written]:
        """The answer of endpoint `name`, as it comes. Raises UpstreamError."""
        endpoint = self._endpoints[name]
        body = {"model": endpoint.model, "messages": conversation_to_json(said), "stream": True, **sampling}
        try:
            address, headers = f"{endpoint.url}/chat/completions", self._headers(name, endpoint)
            async with (
                asyncio.timeout(_WHOLE_ANSWER_S),
                self._client() as client,
                client.stream("POST", address, json=body, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise await _refusal(name, response)
                async for written in _reading(response):
                    yield written
        except UpstreamError as error:
            _LOG.warning("endpoint %s: %s", name, error.what)
            raise
        except (TimeoutError, httpx.TimeoutException):
            _LOG.warning("endpoint %s: no answer in time", name)
            raise UpstreamError("the model did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            _LOG.warning("endpoint %s: %s: %s", name, type(error).__name__, error)
            raise UpstreamError("the model cannot be reached") from None

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=self._tls, transport=self._transport
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def _headers(self, name: str, endpoint: EndpointSettings) -> dict[str, str]:
        if not endpoint.key_env:
            return {}
        key = self._environment.get(endpoint.key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            _LOG.warning("endpoint %s: the environment variable %s holds no key", name, endpoint.key_env)
            raise UpstreamError("the key of the model is not set", now="Tell who runs the studio.")
        return {"Authorization": f"Bearer {key}"}


async def _refusal(name: str, response: httpx.Response) -> UpstreamError:
    """What an answer without text means; the endpoint's own words may hold anything and stay in the log."""
    start = b""
    async for part in response.aiter_bytes():
        start += part
        if len(start) > _MOST_ERROR_BYTES:
            break
    _LOG.warning("endpoint %s: status %d: %s", name, response.status_code, ascii(start[:500].decode(errors="replace")))
    if response.status_code in (400, 413, 422) and b"context_length_exceeded" in start:
        now = "End this talk and begin the next one."
        return UpstreamError("the conversation has grown too long for the model", now=now)
    if response.status_code in (429, 503):
        return UpstreamError("the model is busy", now="Try again in a few seconds.")
    return UpstreamError(f"the model refused (status {response.status_code})")


async def _reading(response: httpx.Response) -> AsyncIterator[Written]:
    """Pieces of the answer, then exactly one with its `stop`. UpstreamError where there is no such end."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        async for written in _whole(response):
            yield written
        return
    characters, stop = 0, None
    async for event in _events(response):
        text, found = _of_event(event)
        stop = found or stop
        if characters + len(text) > MOST_CHARACTERS:
            yield Written(text=text[: MOST_CHARACTERS - characters], stop=StopReason.LENGTH)
            return
        characters += len(text)
        if text:
            yield Written(text=text)
    if stop is None:
        raise UpstreamError("the model stopped in the middle of its answer")
    yield Written(stop=stop)


async def _whole(response: httpx.Response) -> AsyncIterator[Written]:
    """An endpoint that cannot stream answers at once."""
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > _MOST_BYTES:
            raise UpstreamError("the model's answer is too large")
    choice = _first_choice(_parsed(body))
    text = _text_of(choice.get("message"))
    finished = _STOPS.get(str(choice.get("finish_reason")), StopReason.END)
    yield Written(text=text[:MOST_CHARACTERS], stop=finished if len(text) <= MOST_CHARACTERS else StopReason.LENGTH)


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """The data of server-sent events up to [DONE]; sizes are bounded before anything is parsed."""
    held, seen = b"", 0
    async for part in response.aiter_bytes():
        seen += len(part)
        *lines, held = (held + part).split(b"\n")
        if seen > _MOST_BYTES or len(held) > _LONGEST_EVENT_BYTES:
            raise UpstreamError("the model's answer is too large")
        for data in (line[5:].strip() for line in lines if line.startswith(b"data:")):
            if data == b"[DONE]":
                return
            yield data


def _of_event(data: bytes) -> tuple[str, StopReason | None]:
    event = _parsed(data)
    if event.get("error"):
        raise UpstreamError("the model failed in the middle of its answer")
    if not event.get("choices"):
        return "", None  # counts of tokens, and the like
    choice = _first_choice(event)
    reason = choice.get("finish_reason")
    return _text_of(choice.get("delta")), _STOPS.get(str(reason), StopReason.END) if reason else None


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise UpstreamError("what the model sent cannot be read")
    return event


def _first_choice(event: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = event.get("choices")
    if not isinstance(choices, Sequence) or not choices or not isinstance(choices[0], Mapping):
        raise UpstreamError("what the model sent cannot be read")
    return choices[0]


def _text_of(message: object) -> str:
    """The text of a message or delta, made storable: no NUL, no half of a surrogate pair."""
    content = message.get("content") if isinstance(message, Mapping) else None
    text = content if isinstance(content, str) else ""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
