"""What does not fit in the model or in its chat template is left out, and the person watching is told what that was."""

from __future__ import annotations

from collections.abc import Sequence

from assent.algorithms.loop import Task
from assent.errors import DataError
from assent.recipes.run.models import LanguageModel
from assent.recipes.run.progress import Display
from assent.recipes.training.prepare import Prepared
from assent.types import Conversation


def say_skipped(display: Display, count: int, *, what: str = "items") -> None:
    """Say how many were too long, if any."""
    if count:
        display.say(f"  left out, as too long for the model or for max_length: {count} {what}")


def say_prepared(display: Display, prepared: Prepared[Task]) -> None:
    """Say what of the data was too long, and what the chat template does to it."""
    say_skipped(display, prepared.skipped)
    for note in prepared.notes:
        display.say(f"  {note}")


def fitting_prompts(
    prompts: Sequence[Conversation], model: LanguageModel, max_tokens: int, display: Display
) -> list[Conversation]:
    """Prompts that leave room for `max_tokens`; the others are left out and counted."""
    limit = model.role.body.max_length
    lengths = [len(ids) for ids in model.template.encode_prompts(list(prompts))]
    kept = [p for p, length in zip(prompts, lengths, strict=True) if limit is None or length + max_tokens <= limit]
    if not kept:
        raise DataError(
            f"no prompt leaves room for {max_tokens} tokens: the model holds {limit}, the shortest prompt has "
            f"{min(lengths)}",
            now="Use shorter prompts, or --set max_tokens=N.",
        )
    say_skipped(display, len(prompts) - len(kept), what="prompts")
    for note in model.template.notes(kept):
        display.say(f"  {note}")
    return kept
