"""How the files of a command are read: settings that every command with --data has, without what is heavy to import."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assent.config import Settings

Learn = Literal["auto", "comparisons", "labels"]


class Reading(Settings):
    """How judgement in a file is taken.

    `positive_labels` names the good labels where they are no well-known words; the others are bad or, if
    `negative_labels` names the bad ones, left out. `margin_per_score` turns a difference of scores into a margin.
    """

    positive_labels: tuple[str, ...] = ()
    negative_labels: tuple[str, ...] = ()
    keep_ties: bool = True
    margin_per_score: float = Field(default=0.0, ge=0)
