"""Fakes of the seams, plain and predictable; they pass the same contract suites as the real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assent.ports.sampling import Progress, Sampling, silent
from assent.seeds import derive, python_rng
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, StopReason, Turn


class WordSampler:
    """Writes up to `max_tokens` tokens of a few words, each with the same probability; greedy takes the first."""

    def __init__(self, template: ChatTemplate, words: Sequence[str] = ("red", "blue", "yes", "no")) -> None:
        self.template = template
        spoken = sorted({ids[-1] for ids in template.text_ids(list(words)) if ids})
        self._tokens = [*spoken, template.end_id]

    def sample(
        self, prompts: Sequence[Conversation], *, sampling: Sampling, seed: int, progress: Progress = silent
    ) -> list[Turn]:
        """One turn per prompt; prompt i draws from `derive(seed, i)`."""
        turns = []
        for index, prompt in enumerate(prompts):
            turns.append(self._turn(prompt, sampling, derive(seed, index)))
            progress(1)
        return turns

    def _turn(self, prompt: Conversation, sampling: Sampling, seed: int) -> Turn:
        rng, greedy = python_rng(seed, "tokens"), sampling.temperature == 0.0
        ids: list[int] = []
        while len(ids) < sampling.max_tokens and self.template.end_id not in ids:
            ids.append(self._tokens[0 if greedy else rng.randrange(len(self._tokens))])
        logp = 0.0 if greedy else -math.log(len(self._tokens))
        stop = StopReason.END if ids[-1] == self.template.end_id else StopReason.LENGTH
        return Turn(
            prompt_ids=self.template.encode_prompt(prompt),
            completion_ids=tuple(ids),
            logps=(logp,) * len(ids),
            completion=Completion(text=self.template.decode(ids), stop=stop),
        )


class LengthScorer:
    """The longer the text, the better."""

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """Characters of each completion."""
        return [float(len(completion.text)) for completion in completions]
