"""What clients of the OpenAI interface send, checked strictly: what cannot be honoured is refused, not ignored."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from assent.ports.generation import GenerationRequest
from assent.ports.sampling import SamplingParams
from assent.serving.openai_responses import encodable
from assent.types import Conversation, Message, Role

MOST_LOGPROBS, MOST_LOGPROBS_LEGACY, MOST_CHOICES, MOST_STOPS = 20, 5, 128, 4
_LONGEST_STOP, _MOST_MESSAGES, _LARGEST = 500, 1000, 2**63 - 1
_COLDEST = 1e-5  # below, dividing by it leaves the range of floats: it is greedy
_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
_NEUTRAL: dict[str, tuple[Any, ...]] = {  # parameters that are taken where they change nothing
    "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},), "tools": ([],), "functions": ([],),
    "tool_choice": ("none", "auto"), "function_call": ("none", "auto"), "response_format": ({"type": "text"},),
    "modalities": (["text"],), "echo": (False,), "suffix": ("",), "best_of": (1,), "prediction": (), "audio": (),
    "web_search_options": (), "reasoning_effort": (), "verbosity": (), "moderation": (),
}  # fmt: skip
_IDLE = (  # parameters that have no bearing on the text
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "parallel_tool_calls",
)  # fmt: skip


def _refuse_other_parts(part: Any) -> Any:
    """Content parts that are no text are refused by name."""
    if isinstance(part, dict) and part.get("type") != "text":
        raise PydanticCustomError("unsupported_content", "only text can be read, not content of this type")
    return part


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


Count = Annotated[int, BeforeValidator(_integer)]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_the_first_unknown(cls, data: Any) -> Any:
        """One mistake is enough: a body may hold a hundred thousand unknown fields."""
        unknown = (
            next((name for name in data if name not in cls.model_fields), None) if isinstance(data, dict) else None
        )
        if unknown is not None:
            raise PydanticCustomError("extra_forbidden", "unknown parameter", {"name": encodable(unknown)})
        return data


class TextPart(_Sent):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class SentMessage(_Sent):
    """A message; `name`, `refusal` and the like are taken and not shown to the model."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Annotated[TextPart, BeforeValidator(_refuse_other_parts)]], Field(fail_fast=True)]
    name: str | None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None
    annotations: list[Any] | None = None

    @property
    def message(self) -> Message:
        """The same in our words."""
        parts = self.content
        return Message(
            role=_ROLES[self.role], content=parts if isinstance(parts, str) else "".join(part.text for part in parts)
        )


def _refuse_half_characters(data: dict[str, Any]) -> None:
    """Half of a surrogate pair is no text and cannot be sent back. In `model` it makes a name that nothing has."""
    sent = {name: value for name, value in data.items() if name != "model"}
    if _is_text(sent):
        return
    name, value = next((name, value) for name, value in sent.items() if not _is_text({name: value}))
    place = encodable(name)
    if name == "messages" and isinstance(value, list):
        place += f".{next(number for number, one in enumerate(value) if not _is_text(one))}"
    what = "there is half of a surrogate pair (part of an emoji, mostly) in it; send whole characters"
    raise PydanticCustomError("half_character", what, {"name": place})


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except RecursionError:
        raise PydanticCustomError("too_deep", "the body is nested too deeply") from None
    return True


class StreamOptions(_Sent):
    """`include_usage` adds a last chunk that counts the tokens."""

    include_usage: bool = False
    include_obfuscation: bool = False


class _Request(_Sent):
    """What both kinds of request share. `top_k` is an extension."""

    model: str
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Count | None = Field(default=None, ge=0, le=_LARGEST)
    n: Count | None = Field(default=None, ge=1, le=MOST_CHOICES)
    seed: Count | None = Field(default=None, ge=-_LARGEST - 1, le=_LARGEST)
    stop: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_changes_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        _refuse_half_characters(data)
        kept, known = {}, cls.model_fields
        for name, value in data.items():
            if name in _IDLE or (name not in known and name in _NEUTRAL and value is None):
                continue
            if name in _NEUTRAL and name not in known:
                if value in _NEUTRAL[name]:
                    continue
                raise PydanticCustomError(
                    "unsupported_parameter", "the parameter {name} is not supported with this value", {"name": name}
                )
            kept[name] = value
        return kept

    @model_validator(mode="after")
    def _check_stops(self) -> Self:
        if len(self.stop_sequences) > MOST_STOPS:
            raise PydanticCustomError("too_long", "at most {most} stop sequences are taken", {"most": MOST_STOPS})
        if any(not 0 < len(stop) <= _LONGEST_STOP for stop in self.stop_sequences):
            raise PydanticCustomError("stop_length", "a stop sequence has 1 to {most} characters", {"most": 500})
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "stream_options are only taken together with stream")
        return self

    @property
    def stop_sequences(self) -> tuple[str, ...]:
        """Stop sequences."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream ends with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _generation(
        self, prompt: Conversation | str, defaults: SamplingParams, *, max_tokens: int | None,
        top_logprobs: int | None, seed: int,
    ) -> GenerationRequest:  # fmt: skip
        """For the engine; `seed` and `defaults` where the request names none."""
        temperature = defaults.temperature if self.temperature is None else self.temperature
        sampling = SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature if temperature >= _COLDEST else 0.0,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            top_k=defaults.top_k if self.top_k is None else self.top_k,
            stop=self.stop_sequences,
            top_logprobs=top_logprobs,
        )
        seed = seed if self.seed is None else self.seed
        return GenerationRequest(prompt=prompt, sampling=sampling, seed=seed, n=self.n or 1)


class ChatRequest(_Request):
    """POST /v1/chat/completions."""

    messages: list[SentMessage] = Field(min_length=1, max_length=_MOST_MESSAGES, fail_fast=True)
    max_tokens: Count | None = Field(default=None, ge=1)
    max_completion_tokens: Count | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: Count | None = Field(default=None, ge=0, le=MOST_LOGPROBS)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("top_logprobs", "top_logprobs are only taken together with logprobs")
        if self.messages[-1].role == "assistant":
            raise PydanticCustomError("last_message", "the last message must not be the assistant's")
        if self.max_tokens and self.max_completion_tokens:
            raise PydanticCustomError("max_tokens", "give max_completion_tokens or max_tokens, not both")
        return self

    def generation_request(self, seed: int, defaults: SamplingParams = SamplingParams()) -> GenerationRequest:
        """For the engine."""
        prompt = Conversation(messages=tuple(one.message for one in self.messages))
        limit = self.max_completion_tokens or self.max_tokens
        top_logprobs = self.top_logprobs or 0 if self.logprobs else None
        return self._generation(prompt, defaults, max_tokens=limit, top_logprobs=top_logprobs, seed=seed)


class TextRequest(_Request):
    """POST /v1/completions: one plain text to go on with."""

    prompt: str
    max_tokens: Count | None = Field(default=16, ge=1)
    logprobs: Count | None = Field(default=None, ge=0, le=MOST_LOGPROBS_LEGACY)

    def generation_request(self, seed: int, defaults: SamplingParams = SamplingParams()) -> GenerationRequest:
        """For the engine."""
        limit, logprobs = self.max_tokens, self.logprobs
        return self._generation(self.prompt, defaults, max_tokens=limit, top_logprobs=logprobs, seed=seed)
