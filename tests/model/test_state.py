from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assent.model.checkpoints import CheckpointStore, load_state, save_state
from assent.model.state import State, capture_rng, pack, restore_rng, unpack
from assent.model.tensor_file import _NAMES, save_tensors

DTYPES = sorted(_NAMES, key=str)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits, nan payloads and negative zeros among them, of any type and shape."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    if dtype == torch.bool:
        return torch.tensor(draw(st.lists(st.booleans(), min_size=27, max_size=27)))[: int(np.prod(shape))].reshape(
            shape
        )
    count = int(np.prod(shape)) * torch.empty(0, dtype=dtype).element_size()
    data = draw(st.binary(min_size=count, max_size=count))
    flat = torch.tensor(list(data), dtype=torch.uint8)
    return (flat.view(dtype) if count else torch.empty(0, dtype=dtype)).reshape(shape)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
trees = st.recursive(
    values | tensors(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.integers(), inner, max_size=3),
    max_leaves=6,
)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        if (first.dtype, first.shape) != (second.dtype, second.shape):
            return False
        return not first.numel() or bytes(_bytes(first)) == bytes(_bytes(second))
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return repr(first) == repr(second)


def _bytes(tensor: Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def through_disk(state: State) -> State:
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        store.save(7, lambda new: save_state(new, state))
        found = store.newest()
        assert found is not None
        return load_state(found.folder)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), tensors(), max_size=4),
    st.dictionaries(st.text(max_size=5), values, max_size=3),
)
def test_every_bit_of_a_state_comes_back(named: dict[str, Tensor], plain: dict[str, Any]) -> None:
    named.pop("__metadata__", None)
    found = through_disk(State(tensors=named, values=plain))
    assert found.tensors.keys() == named.keys()
    assert all(same(found.tensors[name], named[name]) for name in named)
    assert same(found.values, plain)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=3), trees, max_size=4))
def test_a_packed_tree_comes_back_as_it_was(tree: dict[str, Any]) -> None:
    assert same(unpack(through_disk(pack(tree))), tree)


def test_packed_names_that_collide_stay_apart() -> None:
    tree = {"a": {"b": torch.tensor(1)}, "a.b": torch.tensor(2), "$": {"$": "tensor", "name": "a.b"}}
    assert same(unpack(through_disk(pack(tree))), tree)


@pytest.mark.parametrize("value", [{1, 2}, np.float64(1.0), object(), b"bytes"])
def test_what_would_not_come_back_the_same_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"x\.0"):
        pack({"x": [value]})


def test_tensors_the_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    for named in ({"x": torch.zeros(1, dtype=torch.complex128)}, {"__metadata__": torch.zeros(1)}):
        with pytest.raises(TypeError, match="cannot be saved"):
            CheckpointStore(tmp_path).save(1, lambda new, named=named: save_state(new, State(tensors=named)))
    assert list(tmp_path.iterdir()) == []


def test_views_and_shared_memory_keep_their_own_values(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    parts = {"base": base, "same": base, "row": base[1], "turned": base.t(), "first": base[:1, :1]}
    found = through_disk(State(tensors=parts)).tensors
    assert all(same(found[name], tensor) for name, tensor in parts.items())
    found["base"][0, 0] = 9.0
    assert found["same"][0, 0] == 9.0, "tied weights are tied again"
    assert found["first"][0, 0] == 0.0


def test_the_file_is_the_one_the_library_writes(tmp_path: Path) -> None:
    parts = {"b": torch.randn(3, 2), "a": torch.arange(5), "c": torch.zeros(3, dtype=torch.uint8)}
    save_tensors(tmp_path / "ours", parts)
    save_file(parts, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert all(same(load_file(tmp_path / "ours")[name], tensor) for name, tensor in parts.items())


def test_every_random_generator_goes_on_where_it_was() -> None:
    def draws() -> list[object]:
        return [random.random(), random.gauss(), np.random.random(), np.random.randn(), torch.rand(3).tolist()]

    draws()  # an odd number of gaussians: one is cached
    state = pack({"rng": capture_rng()})
    expected = draws()
    draws()
    restore_rng(unpack(through_disk(state))["rng"])
    assert draws() == expected


def trained(steps: int, cut: int | None) -> dict[str, Any]:
    """Weights and moments after training with dropout, with everything thrown away and read back after `cut` steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(steps):
        if step == cut:
            tree = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": capture_rng()}
            saved = through_disk(pack(tree))
            torch.manual_seed(99)
            model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
            found = unpack(saved)
            model.load_state_dict(found["model"])
            optimizer.load_state_dict(found["optimizer"])
            restore_rng(found["rng"])
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    return {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()}


def test_training_cut_at_any_step_ends_in_the_same_bits() -> None:
    straight = trained(5, cut=None)
    assert not same(straight, trained(4, cut=None))
    for cut in range(5):
        assert same(trained(5, cut=cut), straight)
