"""Constitutions from files: our own TOML, and the JSON that published constitutions come in."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assent.config import parse
from assent.constitution.principles import Constitution, Example, Principle
from assent.errors import ConfigError

_CHAT = ("prompt", "answer", "critique_request", "critique", "revision_request", "revision")
_PUBLISHED = 'Expected {"constitutions": [{"critic": "...", "revision": "..."}], "system_chat": [...]}.'
DEFAULT = "default.toml"


def default_path() -> Path:
    """The constitution that comes with the package."""
    return Path(str(resources.files("assent.constitution") / DEFAULT))


def load_constitution(path: Path) -> Constitution:
    """Read and check a constitution; ConfigError with the place of what is wrong."""
    if path.suffix == ".json":
        return _published(path)
    found = parse(Constitution, file=path)
    found.require_comparisons(str(path))
    return found


def _published(path: Path) -> Constitution:
    """Critiques and revisions without comparison questions; the last six messages of a `system_chat` are an example."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(path), now="Check the path.") from None
    except ValueError as error:
        raise ConfigError(f"not valid JSON: {error}", where=str(path), now=_PUBLISHED) from None
    try:
        rows = document["constitutions"]
        principles = tuple(
            Principle(id=str(number), text=row["critic"], critique=row["critic"], revision=row["revision"])
            for number, row in enumerate(rows, 1)
        )
        examples = tuple(map(_example, document.get("system_chat", ())))
        return Constitution(name=path.stem, principles=principles, examples=examples)
    except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        what = f"not a published constitution ({type(error).__name__}: {reason})"
        raise ConfigError(what, where=str(path), now=_PUBLISHED) from None


def _example(chat: list[dict[str, Any]]) -> Example:
    if len(chat) < len(_CHAT):
        raise ValueError(f"an example has at least {len(_CHAT)} messages, not {len(chat)}")
    return Example(**{name: message["content"] for name, message in zip(_CHAT, chat[-len(_CHAT) :], strict=True)})
