"""Serving in this process: a language role written out step by step, as text with its tokens."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from assent.errors import DataError
from assent.model.roles import LanguageRole
from assent.model.stepping import Begun, Drawn, StepDecoder
from assent.ports.sampling import Asked, Chance, Piece, Prepared, PromptTooLong, Sampling, WrittenToken
from assent.text.incremental import Released, TextStream
from assent.text.template import ChatTemplate
from assent.text.token_texts import TokenTexts
from assent.types import StopReason


class _Line:
    """A completion under way: its text, and the tokens that its text does not show yet."""

    def __init__(self, template: ChatTemplate, stops: tuple[str, ...]) -> None:
        self.text = TextStream(template.decode, stops, in_pieces=template.decodes_in_pieces)
        self.tokens: list[WrittenToken] = []
        self.empty = True

    def take(self, released: Released, stop: StopReason | None) -> Piece:
        """The released text with the tokens that it shows."""
        shown, self.tokens = self.tokens[: released.tokens], self.tokens[released.tokens :]
        stop = StopReason.END if released.stopped else stop
        return Piece(text=released.text, tokens=tuple(shown), stop=stop)


class LocalStepSampler:
    """`StepSampler` with the weights of a role of this process."""

    def __init__(self, role: LanguageRole, template: ChatTemplate) -> None:
        self._template, self._limit = template, role.body.max_length
        self._decoder = StepDecoder(role, end_ids=template.end_ids)
        self._texts = TokenTexts(template.tokenizer)
        self._lines: dict[int, _Line] = {}

    def prepare(self, asked: Asked) -> Prepared:
        """The prompt's ids and how much may be written. Without a limit in the model, 1,024 tokens unless asked."""
        if isinstance(asked.prompt, str):
            ids = self._template.continuation_ids(asked.prompt)
        else:
            ids = self._template.encode_prompt(asked.prompt)
        if not ids:
            raise DataError("the prompt is empty", now="Give some text.")
        room = self._limit - len(ids) if self._limit is not None else None
        wanted = asked.max_tokens or (room if room is not None else 1024)
        if room is not None and (room < 1 or wanted > room):
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, {max(wanted, 1)} are to come, the model holds {self._limit}",
                now="Shorten the conversation, or ask for fewer tokens.",
            )
        return Prepared(asked=asked, prompt_ids=tuple(ids), max_tokens=wanted)

    def begin(self, completions: Mapping[int, Prepared]) -> None:
        """Let completions take part from the next step on."""
        self._lines |= {key: _Line(self._template, one.asked.stops) for key, one in completions.items()}
        self._decoder.begin([_begun(key, one) for key, one in completions.items()])

    def step(self) -> Mapping[int, Piece]:
        """One token more for every completion."""
        pieces = {drawn.key: self._piece(drawn) for drawn in self._decoder.step()}
        over = [key for key, piece in pieces.items() if piece.stop is not None]
        self.drop(over)
        return pieces

    def drop(self, keys: Collection[int]) -> None:
        """Forget completions."""
        self._decoder.drop(keys)
        for key in keys:
            self._lines.pop(key, None)

    def _piece(self, drawn: Drawn) -> Piece:
        line = self._lines[drawn.key]
        if math.isnan(drawn.logp):
            return Piece(stop=StopReason.ERROR)
        if drawn.ended:
            return line.take(line.text.close(), StopReason.END)
        first, line.empty = line.empty, False
        likeliest = tuple(self._chance(id_, logp, first) for id_, logp in drawn.likeliest)
        line.tokens.append(WrittenToken(chosen=self._chance(drawn.id, drawn.logp, first), likeliest=likeliest))
        piece = line.take(line.text.add(drawn.id), None)
        if piece.stop is not None or not drawn.full:
            return piece
        rest = line.take(line.text.close(), StopReason.LENGTH)
        return Piece(text=piece.text + rest.text, tokens=piece.tokens + rest.tokens, stop=rest.stop)

    def _chance(self, id_: int, logp: float, first: bool) -> Chance:
        text, utf8 = self._texts.of(id_, first=first)
        return Chance(id=id_, text=text, utf8=utf8, logp=logp)


def _begun(key: int, prepared: Prepared) -> Begun:
    asked = prepared.asked
    return Begun(
        key=key,
        prompt_ids=prepared.prompt_ids,
        sampling=Sampling(
            max_tokens=prepared.max_tokens, temperature=asked.temperature, top_p=asked.top_p, top_k=asked.top_k
        ),
        seed=asked.seed,
        likeliest=asked.likeliest,
    )
