"""The seam towards whatever compares two completions: a reward model, a rule, a person, a language model. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from assent.types import Completion, Conversation


@runtime_checkable
class Judge(Protocol):
    """Prefers one of two completions of a prompt."""

    def prefer(
        self, prompts: Sequence[Conversation], first: Sequence[Completion], second: Sequence[Completion]
    ) -> list[float]:
        """For each prompt the probability in [0, 1] that the first completion is the better one; 0.5 is a tie.

        Swapping the two gives one minus the probability.
        """
