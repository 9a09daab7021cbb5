"""Writing the safetensors format tensor by tensor, so that a full disk is an error with a number and nothing is copied.

The library's own writer reports a full disk as text and wants all bytes in memory when it does not write the file
itself; the format is a length, a JSON header and the raw bytes. Reading goes through the library.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write and sync one safetensors file, give back its sha256. Raises OSError, and TypeError for an unknown dtype."""
    return save_pieces(path, _pieces(tensors))


def save_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write and sync a file, give back its sha256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file on the CPU, in memory of their own: the file may go while they are used."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    # Wide types first, as the library does, so that every tensor starts at a multiple of its item size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    start = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES or name == "__metadata__":  # the one name the format keeps for itself
            raise TypeError(f"tensor {name!r} of {tensor.dtype} cannot be saved")
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in order:
        if tensors[name].numel():
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().data
