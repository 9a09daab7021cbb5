"""A constitution: principles by which a model criticises, revises and compares answers.

Bai et al. (2022), "Constitutional AI" (arXiv 2212.08073): each step draws one principle at random.
"""

from __future__ import annotations

import random
from typing import Literal, Self

from pydantic import Field, model_validator

from assent.config import Settings
from assent.errors import ConfigError

Tag = Literal["helpful", "honest", "harmless"]
TAGS: tuple[Tag, ...] = ("helpful", "honest", "harmless")


class Example(Settings):
    """A worked chain to show the model first: an answer, its critique and the revision.

    The requests are those of the drawn principle unless the example has its own.
    """

    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    critique: str = Field(min_length=1)
    revision: str = Field(min_length=1)
    critique_request: str = ""
    revision_request: str = ""


class Principle(Settings):
    """One principle; `comparison` is empty only in published files, which have none and cannot judge."""

    id: str = Field(pattern=r"^[\w-]+$")
    text: str = Field(min_length=1)
    critique: str = Field(min_length=1)
    revision: str = Field(min_length=1)
    comparison: str = ""
    weight: float = Field(default=1.0, gt=0)
    tags: tuple[Tag, ...] = ()
    examples: tuple[Example, ...] = ()


class Constitution(Settings):
    """Principles in order; `examples` are shown with every principle, after its own."""

    name: str = Field(min_length=1)
    principles: tuple[Principle, ...] = ()
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _has_principles_with_ids_of_their_own(self) -> Self:
        if not self.principles:
            raise ValueError("there is no principle; add a table [[principles]]")
        ids = [one.id for one in self.principles]
        if repeated := next((one for one in ids if ids.count(one) > 1), None):
            raise ValueError(f'two principles have the id "{repeated}"; give each its own')
        return self

    def tagged(self, tags: tuple[Tag, ...]) -> Constitution:
        """The constitution with the principles that have one of the tags; no tags: all of them. ConfigError if none."""
        if not tags:
            return self
        kept = tuple(one for one in self.principles if set(one.tags) & set(tags))
        if not kept:
            what = f'no principle of "{self.name}" is tagged {" or ".join(tags)}'
            raise ConfigError(what, where="tags", now="`assent constitution show` lists the tags.")
        return self.model_copy(update={"principles": kept})

    def draw(self, count: int, rng: random.Random, *, without: frozenset[str] = frozenset()) -> list[Principle]:
        """`count` different principles, drawn by weight; those of `without` only once all others are taken."""
        left = [one for one in self.principles if one.id not in without] or list(self.principles)
        drawn: list[Principle] = []
        while left and len(drawn) < count:
            drawn.append(rng.choices(left, [one.weight for one in left])[0])
            left.remove(drawn[-1])
        return drawn

    def few_shots(self, principle: Principle, count: int) -> tuple[Example, ...]:
        """The first `count` examples, with their requests."""
        return tuple(
            one.model_copy(
                update={
                    "critique_request": one.critique_request or principle.critique,
                    "revision_request": one.revision_request or principle.revision,
                }
            )
            for one in (*principle.examples, *self.examples)[:count]
        )

    def require_comparisons(self, where: str) -> None:
        """ConfigError for a principle that cannot compare two answers."""
        for number, one in enumerate(self.principles, 1):
            if not one.comparison.strip():
                what = f'principle {number} ("{one.id}") has no comparison question'
                now = 'Add comparison = "Which answer ...?" to it.'
                raise ConfigError(what, where=where, now=now)
