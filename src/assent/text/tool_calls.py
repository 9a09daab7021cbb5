"""Tool calls as text: a list of calls in JSON, on the last line of a message."""

from __future__ import annotations

import json
from typing import Any


def calls_at_end(text: str) -> str:
    """The last line of a text if it is a list of tool calls as JSON, as messages with calls are read; else no text."""
    line = text.rsplit("\n", maxsplit=1)[-1]
    if not (line.startswith("[{") and line.endswith("}]")):
        return ""
    try:
        return line if all(_is_call(one) for one in json.loads(line)) else ""
    except (ValueError, RecursionError):
        return ""


def _is_call(value: Any) -> bool:
    function = value.get("function") if isinstance(value, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)
