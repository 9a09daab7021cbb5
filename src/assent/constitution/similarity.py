"""How alike two prompts are in their letters: Dice's coefficient of their sets of four letters.

    similarity = 2 |A n B| / (|A| + |B|)        1 for equal texts, 0 for texts that share no four letters in a row

Case, and how much space stands between words, make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_LETTERS = 4

Grams = frozenset[str]


def grams(text: str) -> Grams:
    """All that stands in any four letters in a row; of a shorter text the text itself."""
    plain = " ".join(text.casefold().split())
    return frozenset(plain[place : place + _LETTERS] for place in range(max(1, len(plain) - _LETTERS + 1)))


def similarity(first: Grams, second: Grams) -> float:
    """Dice's coefficient, in [0, 1]."""
    return 2 * len(first & second) / (len(first) + len(second))


def nearest(one: Grams, others: Iterable[Grams]) -> float:
    """The similarity to the most similar of the others; 0 if there are none."""
    return max((similarity(one, other) for other in others), default=0.0)


def self_similarity(texts: Sequence[str]) -> float | None:
    """The mean over texts of the similarity to the nearest other text; None for fewer than two."""
    sets = [grams(text) for text in texts]
    if len(sets) < 2:
        return None
    return sum(nearest(one, sets[:place] + sets[place + 1 :]) for place, one in enumerate(sets)) / len(sets)
