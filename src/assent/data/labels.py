"""Which labels of a file are good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assent.data.examples import Example, Labelled
from assent.errors import DataError
from assent.types import Rating

_GOOD = {
    *("1", "true", "yes", "good", "positive", "pos", "up", "safe", "chosen", "desirable", "helpful", "correct"),
    *("neither", "nohate", "not_hate", "not-hate", "non-hateful", "not_hateful", "non_hate", "acceptable"),
}
_BAD = {
    *("0", "false", "no", "bad", "negative", "neg", "down", "unsafe", "rejected", "undesirable", "wrong"),
    *("hate", "hateful", "hate_speech", "offensive", "offensive_language", "flagged", "unacceptable"),
}


def with_scores(
    examples: Sequence[Example], positive: Sequence[str], negative: Sequence[str], place: str
) -> list[Example]:
    """The examples with each label as 1.0 (good) or 0.0 (bad).

    `positive` names the good labels; the others are bad or, if `negative` names the bad ones, left out. Without these,
    every label must be a well-known word: none is guessed.
    """
    labels = sorted({example.label for example in examples if isinstance(example, Labelled)})
    if not labels:
        return list(examples)
    score_of = _scores(labels, positive, negative, place)
    return [
        Rating(
            prompt=one.prompt,
            completion=one.completion,
            score=score_of[one.label],
            criterion=one.criterion,
            provenance=one.provenance,
        )
        if isinstance(one, Labelled)
        else one
        for one in examples
        if not isinstance(one, Labelled) or one.label in score_of
    ]


def _scores(labels: Sequence[str], positive: Sequence[str], negative: Sequence[str], place: str) -> dict[str, float]:
    listed = ", ".join(labels[:8])
    folded = {label.lower() for label in labels}
    missing = [name for name in (*positive, *negative) if name.lower() not in folded]
    if missing:
        raise DataError(f'no row has the label "{missing[0]}"; there are: {listed}', where=place)
    bad = {name.lower() for name in negative}
    good = {name.lower() for name in positive} or _GOOD - bad
    bad = bad or (folded - good if positive else _BAD)
    if not positive and not negative and folded - good - bad:
        raise DataError(
            f"it is unclear which of the labels are good: {listed}",
            where=place,
            now="Name the good ones with --set 'reading.positive_labels=[\"...\"]'; all others are bad, unless "
            "reading.negative_labels names those.",
        )
    known = {label for label in labels if label.lower() in good | bad}
    return {label: float(label.lower() in good) for label in known}


def check_labels(ratings: Iterable[Rating], place: str | None = None) -> None:
    """DataError for a score that is not a label: 1 is good, 0 is bad, numbers between are soft labels."""
    scores = [one.score for one in ratings]
    if any(not 0 <= score <= 1 for score in scores):
        raise DataError(
            f"scores from {min(scores):g} to {max(scores):g} are not labels of good (1) and bad (0)",
            where=place,
            now="For comparisons, give several scored answers per prompt by one annotator. For labels, name their "
            "column with --set reading.label=COLUMN and the good ones with --set 'reading.positive_labels=[\"...\"]'.",
        )
