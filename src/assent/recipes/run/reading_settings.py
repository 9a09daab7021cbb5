"""How the files of a command are read: settings that every command with --data has, without what is heavy to import."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assent.data.columns import Columns

Learn = Literal["auto", "comparisons", "labels"]


class Reading(Columns):
    """How files are read: which columns hold what, where their names do not say it, and what judgement means.

    `positive_labels` names the good labels where they are no well-known words; the others are bad or, if
    `negative_labels` names the bad ones, left out. `margin_per_score` turns a difference of scores into a margin.
    """

    positive_labels: tuple[str, ...] = ()
    negative_labels: tuple[str, ...] = ()
    keep_ties: bool = True
    margin_per_score: float = Field(default=0.0, ge=0)

    @property
    def class_names(self) -> tuple[str, str]:
        """What a classifier's two classes are called: by the first bad and the first good label, if they are named."""
        return (*self.negative_labels, "bad")[0], (*self.positive_labels, "good")[0]
