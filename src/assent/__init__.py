"""Assent aligns language models with human judgement: preferences in, an aligned model and the evidence out."""

import importlib
from typing import Any

__version__ = "0.1.0"
_API = ("load", "load_reward", "sft", "train_reward", "ppo", "dpo", "sample", "evaluate")
__all__ = [*_API, "__version__"]


def __getattr__(name: str) -> Any:
    """The Python API, loaded at first use: `import assent` alone stays light."""
    if name in _API:
        return getattr(importlib.import_module("assent.api"), name)
    raise AttributeError(f"module 'assent' has no attribute {name!r}")
