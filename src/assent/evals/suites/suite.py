"""What a suite is: files to items, what is asked of a model, and figures as functions of sums over items.

A suite knows no model. It says what is to be observed of each item (log-likelihoods of its options, an answer, or which
of its options is preferred) and turns what was observed into columns of numbers. A figure is a function of the sums of
columns, so that every figure has a bootstrap interval over groups of items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assent.errors import DataError
from assent.evals.intervals import Floats
from assent.types import Conversation

Axis = Literal["helpful", "honest", "harmless", "over-refusal", "bias", ""]
AXES: tuple[Axis, ...] = ("helpful", "honest", "harmless")
Prompt = Conversation | str
"""A string is raw text, which no chat template touches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a suite's file and its place ("bbq.jsonl:12")."""

    place: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that must be text and not empty."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.problem(name, "expected text", value)
        return value

    def answer(self, name: str) -> str:
        """A field that must be text: an answer may be empty."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self.problem(name, "expected text", value)
        return value

    def one_of(self, name: str, values: Sequence[str]) -> str:
        """A field that must be one of a few words: another word is the sign of another set."""
        value = self.fields.get(name)
        if value not in values:
            raise self.problem(name, f"expected one of {', '.join(values)}", value)
        return str(value)

    def problem(self, name: str, expected: str, value: Any) -> DataError:
        """What is wrong with a field."""
        shown = "nothing" if value is None else repr(value)[:60]
        return DataError(f'field "{name}": {expected}, got {shown}', where=self.place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One text that could follow a prompt."""

    prompt: Prompt
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen of an item: a number for each of its options (log-likelihood, reward, probability), or an answer.

    `verdict` is what a judge says of the answer (None: nothing that can be read), `score` what a classifier does.
    """

    scores: tuple[float, ...] = ()
    answer: str = ""
    verdict: str | None = None
    score: float = 0.0

    @property
    def choice(self) -> int:
        """The place of the highest score; the first of equals, as argmax in numpy."""
        return int(np.argmax(self.scores))


Columns = Mapping[str, float]
"""What an item adds to the sums of its suite, by column; the first is what it is worth by itself.

An item without a column does not count in its mean.
"""
_NONE = np.array([np.nan])


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question. `measure` turns what was observed into columns; items of one `group` are not independent.

    `shown` is the question for people, `expected` what is right or wanted, `kind` the part of the suite.
    """

    measure: Callable[[Observed], Columns]
    group: str
    shown: str
    expected: str = ""
    kind: str = ""
    options: tuple[Option, ...] = ()
    prompt: Prompt = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums and counts of columns; arrays, because every resample of a bootstrap has its own."""

    totals: Mapping[str, Floats]
    counts: Mapping[str, Floats]

    def total(self, column: str) -> Floats:
        """The sum of a column; nan if no item has it."""
        return self.totals.get(column, _NONE)

    def mean(self, column: str) -> Floats:
        """The mean over the items that have the column; nan if none has."""
        return self.totals[column] / self.counts[column] if column in self.totals else _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of a suite, from the sums of its columns. `formula` says in words what `of` computes.

    `share`: it lies in [0, 1]. `chance` is what guessing gives. A `neutral` figure is neither good nor bad when high. A
    suite's first figure is also given for each kind of its items.
    """

    name: str
    formula: str
    of: Callable[[Sums], Floats]
    axis: Axis = ""
    share: bool = True
    lower_is_better: bool = False
    neutral: bool = False
    chance: float | None = None


def mean_of(column: str) -> Callable[[Sums], Floats]:
    """A figure that is the mean of a column."""
    return lambda sums: sums.mean(column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A kind of file: the columns that its rows must have, and how rows become items."""

    columns: tuple[str, ...]
    read: Callable[[Sequence[Row]], list[Item]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grader:
    """How a judge reads an answer: its question, and the verdict in its reply (None: there is none).

    `empty` is the verdict on an empty answer, which no judge is asked about.
    """

    question: Callable[[str, str], Conversation]
    verdict: Callable[[str], str | None]
    empty: str
    max_tokens: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """How answers are written: greedily, up to `max_tokens`, ending before any of `stop`.

    `shot` writes a worked example, if the suite can be shown some; `grader` or a classifier (`classified`) says what
    the answers are worth.
    """

    max_tokens: int
    stop: tuple[str, ...] = ()
    shot: Callable[[Row], str] | None = None
    grader: Grader | None = None
    classified: bool = False


Asks = Literal["likelihood", "answer", "preference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A published set of questions with its figures.

    `equals` names harness, version and task whose numbers these are ("" where there is none), `prompt` what the model
    reads. `forms` are the files it is published in.
    """

    name: str
    about: str
    asks: Asks
    equals: str
    prompt: str
    figures: tuple[Figure, ...]
    forms: tuple[Form, ...]
    answering: Answering | None = None
    counted: str = "items"

    @property
    def needs(self) -> str:
        """What must judge the answers: "judge", "classifier" or nothing."""
        if self.answering is None:
            return ""
        return "judge" if self.answering.grader else "classifier" if self.answering.classified else ""

    def form_of(self, row: Row) -> Form | None:
        """The form whose columns the row has."""
        return next((form for form in self.forms if not set(form.columns) - set(row.fields)), None)

    def missing_in(self, row: Row) -> str:
        """Which columns the row lacks, by the form that lacks fewest."""
        lacking = [[name for name in form.columns if name not in row.fields] for form in self.forms]
        return ", ".join(f'"{name}"' for name in min(lacking, key=len))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A suite with the items that were read for it. `left_out` did not fit in the model."""

    suite: Suite
    items: tuple[Item, ...]
    data: str = ""
    left_out: int = 0
