"""Looking at the folder of a tokenizer before and beside its library."""

from __future__ import annotations

import json
from pathlib import Path

import transformers

from assent.errors import ConfigError


def check_tokenizer_folder(folder: Path, given: str) -> None:
    """Say plainly what is wrong with a local folder, before a library guesses that it is a hub name."""
    if not folder.exists() and (given.startswith(("/", ".", "~")) or given.count("/") > 1):
        raise ConfigError("there is no such folder", where=given, now="Give a model folder or a hub name.")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            try:
                content = json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise ConfigError(
                    f"the file is damaged ({error})", where=str(folder / name), now="Copy the model folder again."
                ) from error
            if not isinstance(content, dict):
                raise ConfigError("expected a JSON object", where=str(folder / name))


def generation_end_ids(path_or_name: str) -> tuple[int, ...]:
    """The end tokens that a model's generation_config.json names, or without one its config.json."""
    file = _model_file(path_or_name, "generation_config.json") or _model_file(path_or_name, "config.json")
    if file is None:
        return ()
    try:
        named = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"the file is damaged ({error})", where=str(file)) from error
    listed = named if isinstance(named, list) else [named]
    return tuple(id_ for id_ in listed if isinstance(id_, int))


def _model_file(path_or_name: str, name: str) -> Path | None:
    """A file of a local folder, or of a model on the hub as far as it is reached."""
    if Path(path_or_name).exists():
        return Path(path_or_name) / name if (Path(path_or_name) / name).is_file() else None
    found = transformers.utils.cached_file(
        path_or_name, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    return None if found is None else Path(found)
