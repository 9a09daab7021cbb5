"""What models and runs are called on pages and in tables: by their folders, as short as keeps them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path


def unique_names(places: Sequence[str | Path], *, taken: Collection[str] = ()) -> list[str]:
    """The name of each folder, with as many of the folders above it as it takes to differ from the others.

    Of a run's `model` folder the run is the name; a hub name stays whole. No name is one of `taken`.
    """
    parts = [_parts(Path(place)) for place in places]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        counts = Counter(names)
        short = [
            i for i, name in enumerate(names) if (counts[name] > 1 or name in taken) and lengths[i] < len(parts[i])
        ]
        if not short:
            return names
        for i in short:
            lengths[i] += 1


def _parts(place: Path) -> tuple[str, ...]:
    if not place.exists():
        return (str(place),)  # a hub name
    whole = place.resolve()
    whole = whole.parent if whole.name == "model" and whole.parent.name else whole
    return whole.parts[1:] or (str(whole),)
