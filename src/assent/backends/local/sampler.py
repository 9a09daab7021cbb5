"""Sampling and scoring in this process, with the weights that the learner trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from assent.backends.local.completions import CompletionText, room_of, settled
from assent.backends.local.features import Features, feature_batches, read_features
from assent.data.order import token_budget_batches
from assent.model.body import Body
from assent.model.flat import flatten
from assent.model.generation import Decoder, Generation
from assent.model.roles import LanguageRole, ScalarRole
from assent.ports.sampling import Progress, Sampler, SamplingParams, TurnRequest, check_finite, silent
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, Message, StopReason, Turn

_MOST = {"cpu": (256, 1 << 16), "cuda": (1024, 1 << 18)}  # written side by side; tokens cached for them
_CPU_CACHE_BYTES, _CPU_TOKENS = 1 << 30, 1 << 13  # more side by side gain little, but fewer tokens than these lose


def side_by_side(body: Body) -> tuple[int, int]:
    """The most completions that are written side by side, and the most tokens that are cached for them.

    They depend on the model alone: with the memory that is free, the rounding of a completion would change.
    """
    rows, tokens = _MOST[body.device.type]
    if body.device.type != "cpu":
        return rows, tokens
    return rows, min(tokens, max(_CPU_TOKENS, _CPU_CACHE_BYTES // body.cache_bytes))


class LocalSampler(Sampler):
    """Writes completions with a role of this process; the text passes through the chat template.

    With `keep_states`, turns bear the hidden states they were drawn from, which spares the learner a pass.
    """

    def __init__(self, role: LanguageRole, template: ChatTemplate, *, keep_states: bool = False) -> None:
        self.role, self.template, self.keep_states = role, template, keep_states

    @property
    def room(self) -> int:
        """As the model holds."""
        return room_of(self.role.body)

    def encode(self, prompt: Conversation) -> tuple[int, ...]:
        """The tokens of a prompt, up to where the assistant begins."""
        return self.template.encode_prompt(prompt)

    def encode_reply(self, prompt: Conversation, answer: Message, reply: Sequence[Message]) -> tuple[int, ...]:
        """As the template writes messages behind an answer."""
        return self.template.encode_reply(prompt, answer, reply)

    def stream(
        self, arrivals: Iterable[Sequence[TurnRequest]], *, sampling: SamplingParams, progress: Progress = silent
    ) -> Iterator[tuple[int, Turn]]:
        """Finished turns as they come; of requests that come together, those with the longest prompts begin."""
        rows, tokens = side_by_side(self.role.body)
        decoder = Decoder(
            self.role.prepared(),
            end_ids=self.template.end_ids,
            most_rows=rows,
            most_tokens=tokens,
            keep_states=self.keep_states,
            pause=partial(progress, 0),
        )
        requests, texts = iter(arrivals), dict[int, CompletionText]()
        while (arrived := next(requests, None)) is not None or decoder.under_way:
            begun = self._begun(arrived or (), sampling)
            texts |= {one.key: CompletionText(self.template, one) for one in begun if sampling.stop}
            decoder.add(begun)
            if not decoder.under_way:
                continue
            grown = decoder.step()
            for one in grown:
                if one.key in texts and texts[one.key].grow().stopped:
                    one.stop = StopReason.END
                    decoder.abort([one.key])
            finished = [one for one in grown if one.stop is not None]
            for one in finished:
                yield one.key, self._turn(one, texts.pop(one.key).text if sampling.stop else None)
            progress(len(finished))

    def _begun(self, requests: Sequence[TurnRequest], sampling: SamplingParams) -> list[Generation]:
        numbers: dict[int, int] = {}
        begun = []
        for one in requests:
            number = numbers.setdefault(id(one.prompt_ids), len(numbers) + 1)
            params = settled(sampling, self.role.body, len(one.prompt_ids), what=f"prompt {number}")
            begun.append(Generation(key=one.key, prompt_ids=one.prompt_ids, sampling=params, seed=one.seed))
        return sorted(begun, key=lambda one: -len(one.prompt_ids))

    def _turn(self, written: Generation, text: str | None) -> Turn:
        """A finished completion; its text is that of all its tokens, unless a stop sequence cut it."""
        assert written.stop is not None
        states = np.stack(written.states) if written.states else None
        written.states.clear()  # each is a part of what all rows had in that step
        return Turn(
            prompt_ids=tuple(written.prompt_ids),
            completion_ids=tuple(written.ids),
            logps=tuple(written.logps),
            completion=Completion(text=self.template.decode(written.ids) if text is None else text, stop=written.stop),
            version=self.role.version,
            states=states,
        )


class RewardScorer:
    """A reward model or classifier as reward: text in, the logit of class `positive` out."""

    def __init__(
        self, role: ScalarRole, template: ChatTemplate, *, positive: int = 0, progress: Progress = silent
    ) -> None:
        self.role, self.template, self.positive, self._progress = role, template, positive, progress

    def watched(self, progress: Progress) -> RewardScorer:
        """The same scorer; `progress` counts completions and may raise to end the work."""
        return RewardScorer(self.role, self.template, positive=self.positive, progress=progress)

    @torch.no_grad()
    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """One number per completion; a number that is not finite is an error that names the completion."""
        pairs = list(zip(prompts, completions, strict=True))
        encoded = [one.ids for one in self.template.encode_completions(pairs)]
        self.role.body.model.eval()
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        found = [0.0] * len(encoded)
        for part in token_budget_batches([len(encoded[index]) for index in order], self.role.body.read_at_once):
            chosen = [order[position] for position in part]
            batch = flatten([encoded[index] for index in chosen]).to(self.role.body.device)
            for index, value in zip(chosen, self.role.logits(batch)[:, self.positive].tolist(), strict=True):
                found[index] = value
            self._progress(len(chosen))
        return check_finite(found, completions)

    def features(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> Features:
        """What the head reads of every completion: a row of the trunk's width for each."""
        found_NH = np.zeros((len(completions), self.role.head.in_features), np.float32)
        for batch in feature_batches(self.role, self.template, prompts, completions):
            found_NH[list(batch.places)] = read_features(self.role, batch)
        return found_NH
