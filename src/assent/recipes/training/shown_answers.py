"""What a policy writes for a few prompts before and after training: a loss may look healthy while the model is wrecked.

The answers are greedy, so that a difference is of the weights and not of the dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from assent.evals.evidence import Sample
from assent.evals.words import HELD_OUT
from assent.ports.sampling import SamplingParams
from assent.recipes.run.held_out import AFTER, BEFORE, answers_side_by_side
from assent.recipes.run.models import LanguageModel
from assent.recipes.run.progress import Display
from assent.recipes.run.skipped_examples import fits
from assent.types import Comparison, Completion

SHOWN, MAX_TOKENS = 4, 64


class ShownAnswers:
    """The answers to the first prompts that fit, of those held out or else of training; written now and later."""

    def __init__(
        self, model: LanguageModel, trained: Sequence[Comparison], held_out: Sequence[Comparison], display: Display
    ) -> None:
        self._model, self._display = model, display
        self._kind = HELD_OUT if held_out else "training prompt"
        different = dict.fromkeys(one.prompt for one in held_out or trained)
        self._prompts = list(islice((one for one in different if fits(one, model, max_tokens=MAX_TOKENS)), SHOWN))
        self._before = self._written("before")

    def samples(self) -> tuple[Sample, ...]:
        """The prompts with both answers."""
        answers = {BEFORE: self._before, AFTER: self._written("after")}
        return answers_side_by_side(self._prompts, answers, kind=self._kind)

    def _written(self, when: str) -> list[Completion]:
        if not self._prompts:
            return []
        with self._display.stage(f"write {when} training", len(self._prompts), unit="answers") as stage:
            greedy = SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0)
            turns = self._model.sampler.sample(self._prompts, sampling=greedy, seed=0, progress=stage.counter)
        return [turn.completion for turn in turns]
