"""All randomness comes from here: every random choice has a name, and the name gives the seed."""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive(seed: int, *name: str | int) -> int:
    """A 63-bit seed for the choice called `name`; the same seed and name give the same number on every machine."""
    text = "/".join([str(seed), *map(str, name)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def python_rng(seed: int, *name: str | int) -> random.Random:
    """A `random.Random` for the choice called `name`."""
    return random.Random(derive(seed, *name))


def numpy_rng(seed: int, *name: str | int) -> np.random.Generator:
    """A NumPy generator for the choice called `name`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *name)))
