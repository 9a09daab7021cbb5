"""Serving in this process: a language role written out step by step, as text with its tokens."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from assent.backends.local.completions import CompletionText, room_of, settled, too_long
from assent.errors import DataError
from assent.model.generation import Decoder, Generation
from assent.model.roles import LanguageRole
from assent.ports.generation import GenerationRequest, SampledToken, StreamChunk, TokenizedRequest, TokenLogprob
from assent.ports.sampling import SamplingParams
from assent.seeds import derive
from assent.text.template import ChatTemplate
from assent.text.token_bound import TokenBound
from assent.text.token_texts import TokenTexts
from assent.types import StopReason


class LocalEngine:
    """`GenerationEngine` with the weights of a role of this process."""

    def __init__(self, role: LanguageRole, template: ChatTemplate) -> None:
        self._role, self._template = role.prepared(), template
        self._reader = copy.deepcopy(template)  # a tokenizer is not for two threads: encoding changes its settings
        self._bound = TokenBound(self._reader.tokenizer)
        self._decoder = Decoder(self._role, end_ids=template.end_ids)
        self._texts = TokenTexts(template.tokenizer)
        self._completions: dict[int, CompletionText] = {}

    def tokenize(self, request: GenerationRequest) -> TokenizedRequest:
        """The prompt's ids and how much may be written.

        A prompt that cannot fit, by the number of its letters, is refused before it is tokenised.
        """
        prompt, sampling, body = request.prompt, request.sampling, self._role.body
        if request.characters >= room_of(body):
            least = self._bound.least(prompt if isinstance(prompt, str) else self._reader.prompt_text(prompt))
            if least >= room_of(body):
                raise too_long(body, f"at least {least}", sampling.max_tokens or 1)
        ids = self._reader.continuation_ids(prompt) if isinstance(prompt, str) else self._reader.encode_prompt(prompt)
        if not ids:
            raise DataError("the prompt is empty", now="Give some text.")
        request = replace(request, sampling=settled(sampling, body, len(ids)))
        return TokenizedRequest(request=request, prompt_ids=tuple(ids))

    def add(self, request: TokenizedRequest, keys: Sequence[int]) -> None:
        """Let choices take part from the next step on."""
        sampling, seed = request.request.sampling, request.request.seed
        begun = [
            Generation(key=key, prompt_ids=request.prompt_ids, sampling=sampling, seed=derive(seed, choice))
            for choice, key in enumerate(keys)
        ]
        self._completions |= {one.key: CompletionText(self._template, one) for one in begun}
        self._decoder.add(begun)

    def step(self, keys: Collection[int]) -> None:
        """One token more for these completions."""
        with _full_memory_as_memory_error():
            self._decoder.step(keys)

    def chunk(self, key: int) -> StreamChunk:
        """What the last step added to a completion."""
        text = self._completions[key]
        written = text.written
        if written.stop is StopReason.ERROR:
            self.abort([key])
            return StreamChunk(stop=StopReason.ERROR)
        if written.stop is not StopReason.END and written.sampling.top_logprobs is not None:
            likeliest = tuple(self._logprob(written, id_, logp) for id_, logp in written.top_logprobs)
            chosen = self._logprob(written, written.ids[-1], written.model_logp)
            text.hidden.append(SampledToken(chosen=chosen, top_logprobs=likeliest))
        released = text.grow()
        shown, text.hidden = text.hidden[: released.tokens], text.hidden[released.tokens :]
        stop = StopReason.END if released.stopped else written.stop
        if stop is not None:
            self.abort([key])
        return StreamChunk(text=released.text, tokens=tuple(shown), stop=stop)

    def abort(self, keys: Collection[int]) -> None:
        """Forget completions."""
        self._decoder.abort(keys)
        for key in keys:
            self._completions.pop(key, None)

    def check_health(self) -> None:
        """Write one token after the end token, beside everything else."""
        decoder = Decoder(self._role, end_ids=self._template.end_ids)
        prompt, sampling = (self._template.eos_id,), SamplingParams(max_tokens=1)
        decoder.add([Generation(key=0, prompt_ids=prompt, sampling=sampling, seed=0)])
        with _full_memory_as_memory_error():
            decoder.step()

    def _logprob(self, written: Generation, id_: int, logp: float) -> TokenLogprob:
        text, utf8 = self._texts.of(id_, first=len(written.ids) == 1)
        return TokenLogprob(id=id_, text=text, utf8=utf8, logp=logp)


@contextmanager
def _full_memory_as_memory_error() -> Iterator[None]:
    """PyTorch's ways to say that memory is full, as MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error):
            raise MemoryError("the memory is not enough") from error
        raise
