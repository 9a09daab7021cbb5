"""Labels inside the lists and objects of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assent.data.columns import has_value, is_label_column

_NOT_OURS = {"gold", "sampling", "tools", "functions", "tool_calls", "function_call"}


def nested_labels(value: object, path: str = "") -> Iterator[str]:
    """Where something inside a row's columns looks like a label: "completions[].votes", "metadata.scores"."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            here = f"{path}.{name}" if path else str(name)
            if path and is_label_column(str(name)) and has_value(inner):
                yield here
            elif name not in _NOT_OURS:
                yield from nested_labels(inner, here)
    elif isinstance(value, list):
        for each in value:
            yield from nested_labels(each, f"{path}[]")
