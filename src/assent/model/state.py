"""The state of a run: tensors and plain values, nothing that could run code when it is read."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

_MARK = "$"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Tensors by name and JSON values by name. Floats keep their bits; tuples and keys other than text need `pack`."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, JSON] = field(default_factory=dict)


def pack(tree: Mapping[str, Any]) -> State:
    """Any nesting of dicts, lists, tuples, tensors and plain values as a State, e.g. an optimizer's `state_dict()`.

    `unpack` gives back the same tree: tuples stay tuples and integer keys stay integers. Raises TypeError for others.
    """
    tensors: dict[str, Tensor] = {}
    values = {key: _pack(value, key, tensors) for key, value in tree.items()}
    return State(tensors=tensors, values=values)


def unpack(state: State) -> dict[str, Any]:
    """The tree that `pack` was given."""
    return {key: _unpack(value, state.tensors) for key, value in state.values.items()}


def capture_rng() -> dict[str, Any]:
    """The state of every global random generator (Python, NumPy, torch on CPU and on each GPU) as a tree to pack."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    assert name == "MT19937"
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(tree: Mapping[str, Any]) -> None:
    """Set every global random generator to what `capture_rng` saw; GPUs only where as many are present as then."""
    random.setstate(tree["python"])
    keys, position, has_gauss, cached = tree["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tree["torch"])
    if tree["cuda"] and torch.cuda.is_available() and torch.cuda.device_count() == len(tree["cuda"]):
        torch.cuda.set_rng_state_all(tree["cuda"])


def check_json(value: object, name: str) -> None:
    """Raise TypeError where JSON would give back something else: tuples, keys that are not text, objects."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"value {name!r}: the key {key!r} is not text")
            check_json(item, f"{name}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            check_json(item, f"{name}.{place}")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise TypeError(f"value {name!r}: {type(value).__name__} is not a JSON value")


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> JSON:
    if isinstance(value, Tensor):
        while name in tensors:  # {"a": {"b": x}, "a.b": y}
            name += "'"
        tensors[name] = value
        return {_MARK: "tensor", "name": name}
    if isinstance(value, tuple | list):
        items: list[JSON] = [_pack(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
        return {_MARK: "tuple", "items": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and _MARK not in value:
            return {key: _pack(item, f"{name}.{key}", tensors) for key, item in value.items()}
        pairs: list[JSON] = []
        for place, (key, item) in enumerate(value.items()):
            pairs.append([_pack(key, f"{name}.{place}.key", tensors), _pack(item, f"{name}.{place}", tensors)])
        return {_MARK: "dict", "pairs": pairs}
    if isinstance(value, np.generic):
        raise TypeError(f"value {name!r}: a NumPy scalar; convert it with .item()")
    check_json(value, name)
    return value  # type: ignore[no-any-return]  # check_json has refused all but plain values


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(_MARK):
        case "tensor":
            return tensors[value["name"]]
        case "tuple":
            return tuple(_unpack(item, tensors) for item in value["items"])
        case "dict":
            return {_unpack(key, tensors): _unpack(item, tensors) for key, item in value["pairs"]}
    return {key: _unpack(item, tensors) for key, item in value.items()}
