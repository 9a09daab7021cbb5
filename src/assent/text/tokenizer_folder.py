"""Looking at the folder of a tokenizer before and beside its library."""

from __future__ import annotations

import json
from pathlib import Path

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
    """The end tokens that a local folder's generation_config.json names besides the tokenizer's own."""
    path = Path(path_or_name) / "generation_config.json"
    if not path.is_file():
        return ()
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"the file is damaged ({error})", where=str(path)) from error
    listed = named if isinstance(named, list) else [named]
    return tuple(id_ for id_ in listed if isinstance(id_, int))
