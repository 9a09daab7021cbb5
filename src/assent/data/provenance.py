"""Who judged a row, and by which criterion, where the row says so."""

from __future__ import annotations

from dataclasses import replace

from assent.data.examples import Example, Labelled, Scored
from assent.data.rows import Fields
from assent.types import Comparison, Demonstration, Provenance, Ranking, Rating

_PEOPLE = ("who", "annotator", "labeler", "labeller", "rater", "worker", "judge", "reviewer", "evaluator", "user")
WHO = tuple(name for person in _PEOPLE for name in (person, f"{person}_id", f"{person}_name"))
"""Names of the column that names a person, in order of preference."""

CRITERION = ("criterion", "aspect", "dimension")
"""Names of the column that says what a score or a label is about."""

_MOST_CHARACTERS = 100  # longer text is what somebody said, not who or what it is about


def with_provenance(examples: list[Example], fields: Fields) -> list[Example]:
    """The examples of a row with the person who judged it as their provenance, and with their criterion."""
    talks = any(isinstance(one, Demonstration) for one in examples)  # a user asked there, and judged nothing
    who = _word(fields, tuple(name for name in WHO if not (talks and name.startswith("user"))))
    criterion = _word(fields, CRITERION)
    found = []
    for example in examples:
        if who and isinstance(example, Comparison | Demonstration | Ranking | Rating | Scored | Labelled):
            example = replace(example, provenance=Provenance(who=who))
        if criterion and isinstance(example, Rating | Labelled):
            example = replace(example, criterion=criterion)
        found.append(example)
    return found


def _word(fields: Fields, names: tuple[str, ...]) -> str:
    """The first column of these that holds a short text or a number, as text."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            word = str(value).strip()
            if word and len(word) <= _MOST_CHARACTERS and "\n" not in word:
                return word
    return ""
