"""Adapters of model folders: which base they name, and how they are put on it."""

from __future__ import annotations

import json
from pathlib import Path

from assent.errors import ConfigError
from assent.model.adapters import MERGE
from assent.model.body import Body
from assent.model.verification import verify_flat
from assent.recipes.run.machine import LoraOptions


def adapter_base(path: str) -> str | None:
    """The base model that an adapter folder names, or None for a full model."""
    file = Path(path) / "adapter_config.json"
    return str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]) if file.is_file() else None


def on_one_base(path: str, other: str) -> bool:
    """Whether `path` is an adapter folder on the same base as the model `other`, or on that model itself."""
    base = adapter_base(path)
    return base is not None and Path(base).resolve() == Path(adapter_base(other) or other).resolve()


def base_of(path: str) -> str:
    """The base model as an adapter names it: a folder by its whole path, so that it is found from anywhere."""
    base = adapter_base(path) or path
    return str(Path(base).resolve()) if Path(base).is_dir() else base


def put_adapter(body: Body, name: str, path: str, lora: LoraOptions | None) -> bool:
    """Put the adapter of a folder on its base, or else a fresh one if it is wanted; whether there is one now."""
    if adapter_base(path) is not None:
        if weights := body.load_adapter(name, path):
            rest = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
            what = f'the adapter replaces weights of its base: "{min(weights)}"{rest}'
            raise ConfigError(what, where=path, now=MERGE)
        verify_flat(body, path, name)
        return True
    if lora is not None and lora.rank:
        body.add_adapter(name, lora.settings())
        return True
    return False
