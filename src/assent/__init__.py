"""Assent aligns language models with human preferences: labels in, an aligned model and the evidence out."""

import importlib
from typing import TYPE_CHECKING, Any

from assent.algorithms.methods import FUNCTIONS

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load", "load_reward", "sample", "set_threads", *FUNCTIONS]

if TYPE_CHECKING:  # the functions as type checkers and editors see them
    from assent.api import evaluate, load, load_reward, sample, set_threads


def __getattr__(name: str) -> Any:
    """The Python API, loaded at first use: `import assent` alone stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'assent' has no attribute {name!r}")
    api = importlib.import_module("assent.api")
    return api.trainer(name) if name in FUNCTIONS else getattr(api, name)


def __dir__() -> list[str]:
    """The API, for completion."""
    return __all__
