"""What the sampler and the engine of this process share: how much may be written, and a completion's text."""

from __future__ import annotations

from dataclasses import replace

from assent.model.body import Body
from assent.model.generation import Generation
from assent.ports.generation import SampledToken
from assent.ports.sampling import PromptTooLong, SamplingParams
from assent.text.incremental import Released, TextStream
from assent.text.template import ChatTemplate
from assent.types import StopReason

_USUAL_WITHOUT_LIMIT = 1024  # tokens of an answer unless asked, where the model names no limit
_HOLDS_WITHOUT_LIMIT = 1 << 17


def room_of(body: Body) -> int:
    """The most tokens of a prompt and its completion."""
    return body.max_length or _HOLDS_WITHOUT_LIMIT


def settled(sampling: SamplingParams, body: Body, prompt_tokens: int, what: str = "the prompt") -> SamplingParams:
    """The same with `max_tokens` settled: the room that is left unless asked, 1,024 where the model names no limit."""
    room = room_of(body) - prompt_tokens
    wanted = sampling.max_tokens or (room if body.max_length else min(room, _USUAL_WITHOUT_LIMIT))
    if room < 1 or wanted > room:
        raise too_long(body, str(prompt_tokens), max(wanted, 1), what)
    return sampling if wanted == sampling.max_tokens else replace(sampling, max_tokens=wanted)


def too_long(body: Body, tokens: str, wanted: int, what: str = "the prompt") -> PromptTooLong:
    """The error for a prompt that leaves no room."""
    return PromptTooLong(
        f"{what} has {tokens} tokens, {wanted} are to come, the model holds {room_of(body)}",
        now="Shorten it, or ask for fewer tokens.",
    )


class CompletionText:
    """The text of a completion while its tokens come."""

    def __init__(self, template: ChatTemplate, written: Generation) -> None:
        stop, in_pieces = written.sampling.stop, template.decodes_in_pieces
        self._stream, self.written = TextStream(template.decode, stop, in_pieces=in_pieces), written
        self.text = ""  # all that was released
        self.hidden: list[SampledToken] = []  # tokens that it does not show yet

    def grow(self) -> Released:
        """What the last token released; everything once the completion is over."""
        stop = self.written.stop
        released = self._stream.close() if stop is StopReason.END else self._stream.add(self.written.ids[-1])
        if stop not in (None, StopReason.END) and not released.stopped:
            rest = self._stream.close()
            released = replace(rest, text=released.text + rest.text, tokens=released.tokens + rest.tokens)
        self.text += released.text
        return released
