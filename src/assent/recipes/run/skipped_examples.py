"""What does not fit in the model or in its chat template is left out, and the person watching is told what that was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from assent.algorithms.loop import Task
from assent.errors import DataError
from assent.recipes.run.models import LanguageModel
from assent.recipes.run.progress import Display
from assent.recipes.training.prepare import Prepared
from assent.types import Conversation


class PromptLimits(Protocol):
    """The settings of everything that writes: the longest prompt and the longest completion, in tokens."""

    @property
    def max_prompt_length(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...


def say_skipped(display: Display, count: int, *, what: str = "items", limit: str = "max_length") -> None:
    """Say how many were too long, if any."""
    if count:
        display.say(f"  left out, as too long for the model or for {limit}: {count} {what}")


def say_prepared(display: Display, prepared: Prepared[Task]) -> None:
    """Say what of the data was too long, and what the chat template does to it."""
    say_skipped(display, prepared.skipped)
    for note in prepared.notes:
        display.say(f"  {note}")


def fits(prompt: Conversation, model: LanguageModel, *, max_tokens: int) -> bool:
    """Whether a prompt leaves room for an answer."""
    holds = model.role.body.max_length
    return holds is None or len(model.template.encode_prompt(prompt)) + max_tokens <= holds


def fitting_prompts(
    prompts: Sequence[Conversation], model: LanguageModel, settings: PromptLimits, display: Display
) -> list[Conversation]:
    """Prompts of at most `max_prompt_length` that leave room for `max_tokens`; the others are left out and counted."""
    holds, max_tokens, longest = model.role.body.max_length, settings.max_tokens, settings.max_prompt_length
    room = min(holds - max_tokens if holds else longest, longest)
    lengths = [len(ids) for ids in model.template.encode_prompts(list(prompts))]
    kept = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= room]
    if not kept:
        shortest = f"the shortest prompt has {min(lengths)}"
        if room == longest:
            now = "Use shorter prompts, or --set max_prompt_length=N."
            raise DataError(f"no prompt is within max_prompt_length ({longest} tokens): {shortest}", now=now)
        raise DataError(
            f"no prompt leaves room for {max_tokens} tokens: the model holds {holds}, {shortest}",
            now="Use shorter prompts, or --set max_tokens=N.",
        )
    say_skipped(display, len(prompts) - len(kept), what="prompts", limit=f"max_prompt_length ({longest})")
    for note in model.template.notes(kept):
        display.say(f"  {note}")
    return kept
