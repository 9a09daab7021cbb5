"""Assent aligns language models with human preferences: labels in, an aligned model and the evidence out."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "dpo",
    "evaluate",
    "load",
    "load_reward",
    "ppo",
    "sample",
    "set_threads",
    "sft",
    "train_reward",
]

if TYPE_CHECKING:  # the functions as type checkers and editors see them
    from assent.api import dpo, evaluate, load, load_reward, ppo, sample, set_threads, sft, train_reward
else:

    def __getattr__(name: str) -> Any:
        """The Python API, loaded at first use: `import assent` alone stays light."""
        if name in __all__:
            return getattr(importlib.import_module("assent.api"), name)
        raise AttributeError(f"module 'assent' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The API, for completion."""
    return __all__
