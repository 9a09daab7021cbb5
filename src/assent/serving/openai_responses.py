"""What clients of the OpenAI interface get: whole answers, chunks of a stream, log-probabilities, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from assent.ports.generation import SampledToken, StreamChunk, TokenLogprob
from assent.types import StopReason

Kind = Literal["chat", "text"]
_LEAST_LOGP = -9999.0  # JSON has no minus infinity; this number stands for "never" in this interface
_FINISH = {StopReason.END: "stop", StopReason.LENGTH: "length"}


@dataclass(slots=True)
class ChoiceSoFar:
    """One choice while it is written. `steps` counts the model's steps, the end token among them."""

    text: str = ""
    tokens: list[SampledToken] = field(default_factory=list)
    steps: int = 0
    stop: StopReason | None = None

    def add(self, chunk: StreamChunk) -> None:
        """Add one step."""
        self.text += chunk.text
        self.tokens.extend(chunk.tokens)
        self.steps += 1
        self.stop = chunk.stop


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What is the same in everything that answers one request."""

    kind: Kind
    id: str
    created: int
    model: str
    fingerprint: str
    logprobs: bool

    def whole(self, choices: Sequence[ChoiceSoFar], prompt_tokens: int) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        object_ = "chat.completion" if self.kind == "chat" else "text_completion"
        listed = [self._whole_choice(index, choice) for index, choice in enumerate(choices)]
        return {**self._frame(object_), "choices": listed, "usage": usage(prompt_tokens, choices)}

    def opening(self, index: int) -> dict[str, Any]:
        """The first chunk of a chat's choice: who speaks."""
        return self._chunk([self._delta(index, {"role": "assistant", "content": ""}, None, None)])

    def chunk(self, index: int, added: StreamChunk, offset: int) -> dict[str, Any] | None:
        """The chunk of one step, None where nothing shows; `offset` is how much text came before."""
        finish = _FINISH.get(added.stop) if added.stop else None
        if not added.text and not (self.logprobs and added.tokens) and finish is None:
            return None
        logprobs = self._logprobs(added.tokens, offset)
        if self.kind == "text":
            choice = {"index": index, "text": added.text, "logprobs": logprobs, "finish_reason": finish}
        else:
            choice = self._delta(index, {"content": added.text} if added.text else {}, logprobs, finish)
        return self._chunk([choice])

    def closing(self, choices: Sequence[ChoiceSoFar], prompt_tokens: int) -> dict[str, Any]:
        """The last chunk of a stream whose usage was asked for."""
        return {**self._chunk([]), "usage": usage(prompt_tokens, choices)}

    def _frame(self, object_: str) -> dict[str, Any]:
        return {
            "id": self.id, "object": object_, "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint,
        }  # fmt: skip

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            **self._frame("chat.completion.chunk" if self.kind == "chat" else "text_completion"),
            "choices": choices,
        }

    def _delta(self, index: int, delta: Mapping[str, Any], logprobs: Any, finish: str | None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def _whole_choice(self, index: int, choice: ChoiceSoFar) -> dict[str, Any]:
        finish = _FINISH[choice.stop] if choice.stop else None
        ending = {"logprobs": self._logprobs(choice.tokens, 0), "finish_reason": finish}
        if self.kind == "text":
            return {"index": index, "text": choice.text, **ending}
        return {"index": index, "message": {"role": "assistant", "content": choice.text, "refusal": None}, **ending}

    def _logprobs(self, tokens: Sequence[SampledToken], offset: int) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return chat_logprobs(tokens) if self.kind == "chat" else legacy_logprobs(tokens, offset)


def chat_logprobs(tokens: Sequence[SampledToken]) -> dict[str, Any]:
    """One object per token, as chat completions have them."""

    def shown(chance: TokenLogprob) -> dict[str, Any]:
        return {"token": chance.text, "logprob": max(chance.logp, _LEAST_LOGP), "bytes": list(chance.utf8)}

    content = [{**shown(one.chosen), "top_logprobs": [shown(other) for other in one.top_logprobs]} for one in tokens]
    return {"content": content, "refusal": None}


def legacy_logprobs(tokens: Sequence[SampledToken], offset: int) -> dict[str, Any]:
    """Lists side by side, as the older text completions have them."""
    offsets = []
    for one in tokens:
        offsets.append(offset)
        offset += len(one.chosen.text)
    return {
        "tokens": [one.chosen.text for one in tokens],
        "token_logprobs": [max(one.chosen.logp, _LEAST_LOGP) for one in tokens],
        "top_logprobs": [
            {other.text: max(other.logp, _LEAST_LOGP) for other in (*one.top_logprobs, one.chosen)} for one in tokens
        ],
        "text_offset": offsets,
    }


def usage(prompt_tokens: int, choices: Sequence[ChoiceSoFar]) -> dict[str, int]:
    """Tokens read and written; end tokens count as written."""
    written = sum(choice.steps for choice in choices)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": written, "total_tokens": prompt_tokens + written}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error in the interface's own form."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON that clients turn into their exceptions. Half of a surrogate pair that was sent shows as \\ud83d."""
        shown = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": {name: encodable(text) if text else text for name, text in shown.items()}}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The answer with its status; those that may pass say when to come again."""
        more = {"Retry-After": "1"} if self.status in (429, 503) else {}
        more |= {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return JSONResponse(self.body(), self.status, headers={**more, **(headers or {})})


def encodable(text: str) -> str:
    """`text` with each half of a surrogate pair spelled out, so that it can be sent."""
    return text.encode("utf-8", "backslashreplace").decode()


class ProblemError(HTTPException):
    """A problem on its way to the client."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.message)
        self.problem = problem
