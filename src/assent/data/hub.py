"""Hub data sets by name: "owner/name", "owner/name:split", "owner/name:configuration:split".

`datasets` reads them. It takes a second to import, downloads what is not in its cache, and uses the cache if the hub
cannot be reached.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

from assent.data.rows import SourceRow
from assent.data.tables import table_rows
from assent.errors import DataError

_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(?::(?P<first>[\w.-]+))?(?::(?P<second>[\w.-]+))?")
_FILE = re.compile(r"\.(?:jsonl|ndjson|json|csv|tsv|parquet|txt|gz)$", re.IGNORECASE)


def is_hub_name(path: Path) -> bool:
    """Whether this can only be a data set's name: no such file or folder exists, nor its parent folder."""
    text = path.as_posix()
    named = _NAME.fullmatch(text) is not None and not _FILE.search(text)
    return named and not path.exists() and not path.parent.is_dir()


def hub_rows(named: str) -> tuple[tuple[SourceRow, ...], str]:
    """The rows of a data set, and the SHA-256 over its files in the cache in order; DataError."""
    parts = _NAME.fullmatch(named)
    assert parts is not None
    name, first, second = parts["name"], parts["first"], parts["second"]
    library = importlib.import_module("datasets")
    configuration, split = (first, second) if second else (None, first)
    try:
        found = _loaded(library, name, configuration, split)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise DataError(
            f"there is no such file, and the hub gave no data set of this name ({_first_line(error)})",
            where=named,
            now="Check the name and the connection, or download the data set and give its file. A split or a "
            f"configuration follows after a colon: {name}:train.",
        ) from error
    digest = hashlib.sha256()
    for file in found.cache_files:
        digest.update(Path(file["filename"]).read_bytes())
    table = found.with_format("arrow")[:]
    return tuple(table_rows(table, named)), digest.hexdigest()


def _loaded(library: Any, name: str, configuration: str | None, split: str | None) -> Any:
    """One split. Without a name it is the only one, or "train"."""
    try:
        found = library.load_dataset(name, configuration, split=split)
    except ValueError:
        if configuration is not None or split is None:
            raise
        found = library.load_dataset(name, split)  # a configuration, not a split
    if not isinstance(found, dict):
        return found
    if len(found) > 1 and "train" not in found:
        raise ValueError(f"it has the splits {', '.join(found)}; name one of them")
    return found["train"] if "train" in found else next(iter(found.values()))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
