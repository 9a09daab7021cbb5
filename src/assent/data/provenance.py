"""The annotator and the criterion of a row, if it names them."""

from __future__ import annotations

from dataclasses import replace

from assent.data.examples import Example, Labelled
from assent.data.rows import Fields
from assent.types import Conversation, Demonstration, Provenance, Rating, RewardedDialogue

_PEOPLE = ("annotator", "who", "labeler", "labeller", "rater", "worker", "judge", "reviewer", "evaluator", "user")
WHO = tuple(name for person in _PEOPLE for name in (person, f"{person}_id", f"{person}_name"))
"""Names of the column with the annotator, in order of preference."""

CRITERION = ("criterion", "aspect", "dimension")
"""Names of the column that says what a score or a label is about."""

_MOST_CHARACTERS = 100  # longer text is not a name


def with_provenance(examples: list[Example], fields: Fields) -> list[Example]:
    """The examples of a row with its annotator as provenance, and with its criterion."""
    talks = any(
        isinstance(one, Demonstration | RewardedDialogue) for one in examples
    )  # a user asked there and labelled nothing
    who = _word(fields, tuple(name for name in WHO if not (talks and name.startswith("user"))))
    criterion = _word(fields, CRITERION)
    found = []
    for example in examples:
        if who and not isinstance(example, Conversation | str):
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
