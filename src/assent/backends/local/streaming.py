"""Serving in this process: a language role written out step by step, as text with its tokens."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from assent.errors import DataError
from assent.model.roles import LanguageRole
from assent.model.stepping import Begun, Drawn, StepDecoder
from assent.ports.sampling import (
    GenerationRequest,
    Prepared,
    PromptTooLong,
    SampledToken,
    Sampling,
    StreamChunk,
    TokenLogprob,
)
from assent.text.incremental import Released, TextStream
from assent.text.template import ChatTemplate
from assent.text.token_bound import TokenBound
from assent.text.token_texts import TokenTexts
from assent.types import StopReason

_USUAL_WITHOUT_LIMIT = 1024  # tokens of an answer unless asked, where the model names no limit
_HOLDS_WITHOUT_LIMIT = 1 << 17  # the uniforms of an answer are drawn before it begins


class _Line:
    """A completion under way: its text, and the tokens that its text does not show yet."""

    def __init__(self, template: ChatTemplate, stop_sequences: tuple[str, ...]) -> None:
        self.text = TextStream(template.decode, stop_sequences, in_pieces=template.decodes_in_pieces)
        self.tokens: list[SampledToken] = []
        self.empty = True

    def take(self, released: Released, stop: StopReason | None) -> StreamChunk:
        """The released text with the tokens that it shows."""
        shown, self.tokens = self.tokens[: released.tokens], self.tokens[released.tokens :]
        stop = StopReason.END if released.stopped else stop
        return StreamChunk(text=released.text, tokens=tuple(shown), stop=stop)


class LocalStepSampler:
    """`StepSampler` with the weights of a role of this process."""

    def __init__(self, role: LanguageRole, template: ChatTemplate) -> None:
        self._role, self._template = role, template
        self._holds = role.body.max_length or _HOLDS_WITHOUT_LIMIT
        self._usual = None if role.body.max_length else _USUAL_WITHOUT_LIMIT
        self._reader = copy.deepcopy(template)  # a tokenizer is not for two threads: encoding changes its settings
        self._bound = TokenBound(self._reader.tokenizer)
        self._decoder = StepDecoder(role, end_ids=template.end_ids)
        self._texts = TokenTexts(template.tokenizer)
        self._lines: dict[int, _Line] = {}
        self._drawn: dict[int, Drawn] = {}

    def prepare(self, asked: GenerationRequest) -> Prepared:
        """The prompt's ids and how much may be written. Without a limit in the model, 1,024 tokens unless asked.

        A prompt that cannot fit, by the number of its letters, is refused before it is tokenised.
        """
        prompt = asked.prompt
        if asked.size >= self._holds:
            least = self._bound.least(prompt if isinstance(prompt, str) else self._reader.prompt_text(prompt))
            if least >= self._holds:
                raise self._too_long(f"at least {least}", asked.max_tokens or 1)
        ids = self._reader.continuation_ids(prompt) if isinstance(prompt, str) else self._reader.encode_prompt(prompt)
        if not ids:
            raise DataError("the prompt is empty", now="Give some text.")
        room = self._holds - len(ids)
        wanted = asked.max_tokens or self._usual or room
        if room < 1 or wanted > room:
            raise self._too_long(str(len(ids)), max(wanted, 1))
        return Prepared(asked=asked, prompt_ids=tuple(ids), max_tokens=wanted)

    def begin(self, completions: Mapping[int, Prepared]) -> None:
        """Let completions take part from the next step on."""
        self._lines |= {key: _Line(self._template, one.asked.stop_sequences) for key, one in completions.items()}
        self._decoder.begin([_begun(key, one) for key, one in completions.items()])

    def step(self, keys: Collection[int]) -> None:
        """One token more for these completions."""
        with _telling_of_memory():
            drawn = self._decoder.step(keys)
        self._drawn |= {one.key: one for one in drawn}

    def take(self, key: int) -> StreamChunk:
        """What the last step added to a completion."""
        piece = self._piece(self._drawn.pop(key))
        if piece.stop is not None:
            self.drop([key])
        return piece

    def drop(self, keys: Collection[int]) -> None:
        """Forget completions."""
        self._decoder.drop(keys)
        for key in keys:
            self._lines.pop(key, None)
            self._drawn.pop(key, None)

    def check(self) -> None:
        """Write one token after the end token, beside everything else."""
        decoder = StepDecoder(self._role, end_ids=self._template.end_ids)
        decoder.begin([Begun(key=0, prompt_ids=(self._template.eos_id,), sampling=Sampling(max_tokens=1), seed=0)])
        with _telling_of_memory():
            decoder.step()

    def _too_long(self, tokens: str, wanted: int) -> PromptTooLong:
        return PromptTooLong(
            f"the prompt has {tokens} tokens, {wanted} are to come, the model holds {self._holds}",
            now="Shorten the conversation, or ask for fewer tokens.",
        )

    def _piece(self, drawn: Drawn) -> StreamChunk:
        line = self._lines[drawn.key]
        if math.isnan(drawn.logp):
            return StreamChunk(stop=StopReason.ERROR)
        if drawn.ended:
            return line.take(line.text.close(), StopReason.END)
        first, line.empty = line.empty, False
        top_logprobs = tuple(self._chance(id_, logp, first) for id_, logp in drawn.top_logprobs)
        line.tokens.append(SampledToken(chosen=self._chance(drawn.id, drawn.logp, first), top_logprobs=top_logprobs))
        piece = line.take(line.text.add(drawn.id), None)
        if piece.stop is not None or not drawn.full:
            return piece
        rest = line.take(line.text.close(), StopReason.LENGTH)
        return StreamChunk(text=piece.text + rest.text, tokens=piece.tokens + rest.tokens, stop=rest.stop)

    def _chance(self, id_: int, logp: float, first: bool) -> TokenLogprob:
        text, utf8 = self._texts.of(id_, first=first)
        return TokenLogprob(id=id_, text=text, utf8=utf8, logp=logp)


@contextmanager
def _telling_of_memory() -> Iterator[None]:
    """PyTorch's ways to say that memory is full, as MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error):
            raise MemoryError("the memory is not enough") from error
        raise


def _begun(key: int, prepared: Prepared) -> Begun:
    asked = prepared.asked
    return Begun(
        key=key,
        prompt_ids=prepared.prompt_ids,
        sampling=Sampling(
            max_tokens=prepared.max_tokens, temperature=asked.temperature, top_p=asked.top_p, top_k=asked.top_k
        ),
        seed=asked.seed,
        top_logprobs=asked.top_logprobs,
    )
