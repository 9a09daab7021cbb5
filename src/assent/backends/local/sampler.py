"""Sampling and scoring in this process, with the weights that the learner trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from assent.backends.local.features import Features, feature_batches, read_features
from assent.data.order import token_budget_batches
from assent.errors import DataError
from assent.model.flat import FlatBatch, flatten
from assent.model.generation import Sampled, generate
from assent.model.roles import LanguageRole, ScalarRole
from assent.ports.sampling import Progress, Sampling, check_finite, silent
from assent.seeds import derive
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, StopReason, Turn


class LocalSampler:
    """Writes completions with a role of this process; the text passes through the chat template."""

    def __init__(self, role: LanguageRole, template: ChatTemplate) -> None:
        self.role, self.template = role, template

    def sample(
        self, prompts: Sequence[Conversation], *, sampling: Sampling, seed: int, progress: Progress = silent
    ) -> list[Turn]:
        """One turn per prompt, in order; a prompt that leaves no room in the model is refused."""
        prompt_ids = [self.template.encode_prompt(prompt) for prompt in prompts]
        self._check_room(prompt_ids, sampling.max_tokens)
        seeds = [derive(seed, index) for index in range(len(prompts))]
        turns: list[Turn | None] = [None] * len(prompts)
        written = generate(self.role, prompt_ids, sampling=sampling, end_ids=self.template.end_ids, seeds=seeds)
        for index, sampled in written:
            turns[index] = self._turn(prompt_ids[index], sampled)
            progress(1)
        return [turn for turn in turns if turn is not None]

    def _turn(self, prompt_ids: Sequence[int], sampled: Sampled) -> Turn:
        stop = StopReason.END if sampled.ended else StopReason.LENGTH
        return Turn(
            prompt_ids=tuple(prompt_ids),
            completion_ids=sampled.ids,
            logps=sampled.logps,
            completion=Completion(text=self.template.decode(sampled.ids), stop=stop),
            states=sampled.states,
            version=self.role.version,
        )

    def _check_room(self, prompt_ids: Sequence[Sequence[int]], max_tokens: int) -> None:
        limit = self.role.body.max_length
        for index, ids in enumerate(prompt_ids):
            if limit is not None and len(ids) + max_tokens > limit:
                raise DataError(
                    f"prompt {index + 1} has {len(ids)} tokens, {max_tokens} are to come, the model holds {limit}",
                    now="Shorten or leave out long prompts, or write fewer tokens.",
                )


class RewardScorer:
    """A reward model or classifier as reward: text in, the logit of class `positive` out."""

    def __init__(self, role: ScalarRole, template: ChatTemplate, *, positive: int = 0) -> None:
        self.role, self.template, self.positive = role, template, positive

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """One number per completion; a number that is not finite is an error that names the completion."""

        def read(batch: FlatBatch) -> Tensor:
            return self.role.logits(batch)[:, self.positive]

        return check_finite(self._read(prompts, completions, read), completions)

    def features(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> Features:
        """What the head reads of every completion: a row of the trunk's width for each."""
        found_NH = np.zeros((len(completions), self.role.head.in_features), np.float32)
        for batch in feature_batches(self.role, self.template, prompts, completions):
            found_NH[list(batch.places)] = read_features(self.role, batch)
        return found_NH

    @torch.no_grad()
    def _read(
        self, prompts: Sequence[Conversation], completions: Sequence[Completion], read: Callable[[FlatBatch], Tensor]
    ) -> list[float]:
        encoded = [
            self.template.encode_completion(prompt, completion).ids
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        self.role.body.model.eval()
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        found = [0.0] * len(encoded)
        lengths = [len(encoded[index]) for index in order]
        for part in token_budget_batches(lengths, self.role.body.read_at_once):
            chosen = [order[position] for position in part]
            batch = flatten([encoded[index] for index in chosen]).to(self.role.body.device)
            for index, value in zip(chosen, read(batch).tolist(), strict=True):
                found[index] = value
        return found
