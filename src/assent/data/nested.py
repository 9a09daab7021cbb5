"""Judgement that stands inside the lists and objects of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assent.data.columns import has_value, is_label_column

_NOT_OURS = {"gold", "sampling", "tools", "functions", "tool_calls", "function_call"}


def nested_judgement(value: object, path: str = "") -> Iterator[str]:
    """Where something below a row's columns sounds like judgement: "completions[].votes", "metadata.scores"."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            here = f"{path}.{name}" if path else str(name)
            if path and is_label_column(str(name)) and has_value(inner):
                yield here
            elif name not in _NOT_OURS:
                yield from nested_judgement(inner, here)
    elif isinstance(value, list):
        for each in value:
            yield from nested_judgement(each, f"{path}[]")
