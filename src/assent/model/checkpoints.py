"""Checkpoints that survive a crash: written aside, synced, hashed, renamed, read again. Only then are old ones removed.

A checkpoint is a folder `step-00000123` with whatever files its owner writes and `manifest.json` (size and sha256 of
each, and a sha256 of itself). Names that begin with a dot are unfinished and are removed at the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from assent.durable import sha256_file, sync_folder, writing
from assent.errors import RunError
from assent.model.state import State, check_json, pack, unpack
from assent.model.tensor_file import load_tensors, save_pieces, save_tensors

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_ASIDE, _FORMAT = ".aside-", 1
_log = logging.getLogger(__name__)

Write = Callable[[Path], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A checkpoint read back; `skipped` names each newer one that was not usable, and why."""

    step: int
    folder: Path
    skipped: tuple[str, ...] = ()


class CheckpointStore:
    """The checkpoints of one run in one folder. Only one process at a time may use it; the run's lock ensures that."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        """Keep the newest `keep` >= 1 good checkpoints. Removes what a killed process left."""
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self._folder, self._keep = folder, keep
        self._verified: set[int] = set()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._clear_unfinished()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint folder, whole or not, oldest first."""
        found = (re.fullmatch(r"step-(\d{8,})", path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, write: Write) -> Path:
        """Write the checkpoint of `step`, verify it by reading it again, then remove the ones no longer needed.

        `write` is given an empty folder and returns the sha256 of each file that it wrote there. Checkpoints of later
        steps are removed too, because this save replaces them. Raises RunError if the disk fails or returns other
        bytes; earlier checkpoints are then intact and nothing unfinished is left.
        """
        target, temporary = self._path(step), self._folder / f".new-{step:08d}"
        aside = self._folder / f"{_ASIDE}{target.name}"
        with writing(target, safe="The earlier checkpoints are intact."):
            self._clear_unfinished()
            try:
                temporary.mkdir()
                _write_manifest(temporary, step, write(temporary))
                if target.exists():
                    target.rename(aside)
                temporary.rename(target)
                sync_folder(self._folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                self._take_back(aside, target)
                raise
        if problem := _problem(target, step):
            with contextlib.suppress(OSError):
                shutil.rmtree(target)
            self._take_back(aside, target)
            now = "The earlier checkpoints are intact. Check the disk."
            raise RunError(f"the checkpoint does not read back as written ({problem})", where=str(target), now=now)
        self._verified.add(step)
        with writing(self._folder, safe=f"The checkpoint of step {step} is complete."):
            if aside.exists():
                shutil.rmtree(aside)
            self._prune(step)
        return target

    def newest(self) -> Restored | None:
        """The newest checkpoint whose hashes verify, or None if there is none at all.

        Raises RunError if there are checkpoints and every one is broken.
        """
        skipped: list[str] = []
        for step in reversed(self.steps()):
            problem = _problem(self._path(step), step)
            if problem is None:
                self._verified.add(step)
                return Restored(step=step, folder=self._path(step), skipped=tuple(skipped))
            skipped.append(f"checkpoint {self._path(step)} is skipped: {problem}")
            _log.warning(skipped[-1])
        if skipped:
            what = "no checkpoint can be used:" + "".join(f"\n  {line}" for line in skipped)
            raise RunError(what, where=str(self._folder), now="Start the run again with --overwrite or another --out.")
        return None

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _take_back(self, aside: Path, target: Path) -> None:
        with contextlib.suppress(OSError):
            if aside.exists() and not target.exists():
                aside.rename(target)

    def _prune(self, newest: int) -> None:
        """Keep `newest` and the last good ones before it."""
        kept = 1
        for step in reversed(self.steps()):
            if step == newest:
                continue
            if step < newest and kept < self._keep and (step in self._verified or not _problem(self._path(step), step)):
                self._verified.add(step)
                kept += 1
                continue
            self._verified.discard(step)
            doomed = self._folder / f".old-{step:08d}"
            self._path(step).rename(doomed)
            shutil.rmtree(doomed)
        sync_folder(self._folder)

    def _clear_unfinished(self) -> None:
        for path in list(self._folder.iterdir()):
            if path.name.startswith(_ASIDE):
                self._take_back(path, self._folder / path.name.removeprefix(_ASIDE))
            if re.match(r"\.(new|old|aside)-", path.name) and path.exists():
                shutil.rmtree(path)


def _write_manifest(folder: Path, step: int, hashes: Mapping[str, str]) -> None:
    files = {name: {"sha256": sha256, "bytes": (folder / name).stat().st_size} for name, sha256 in hashes.items()}
    manifest: dict[str, Any] = {"format": _FORMAT, "step": step, "files": files}
    save_text(folder / _MANIFEST, json.dumps({**manifest, "sha256": _self_hash(manifest)}, indent=1))
    sync_folder(folder)


def _problem(folder: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, or None: every byte of it is read and hashed."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        if not isinstance(manifest, dict) or manifest.pop("sha256", None) != _self_hash(manifest):
            return f"{_MANIFEST} is damaged"
        if manifest["format"] != _FORMAT or manifest["step"] != step:
            return f"{_MANIFEST} is of another format or step"
        for name, expected in manifest["files"].items():
            if (size := (folder / name).stat().st_size) != expected["bytes"]:
                return f"{name} has {size} bytes instead of {expected['bytes']}"
            if sha256_file(folder / name) != expected["sha256"]:
                return f"{name} has other bytes than were written"
    except (ValueError, RecursionError):
        return f"{_MANIFEST} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def save_state(folder: Path, state: State) -> dict[str, str]:
    """Write tensors and values as two files; gives their sha256. Raises TypeError for values that JSON would change."""
    check_json(state.values, "values")
    tensors, aliases = _without_aliases(state.tensors)
    document = json.dumps({"values": state.values, "aliases": aliases})
    return {_TENSORS: save_tensors(folder / _TENSORS, tensors), _STATE: save_text(folder / _STATE, document)}


def load_state(folder: Path) -> State:
    """The reverse of `save_state`; independent of the files from then on."""
    document = json.loads((folder / _STATE).read_bytes())
    tensors = load_tensors(folder / _TENSORS)
    for name, original in document["aliases"].items():
        tensors[name] = tensors[original]
    return State(tensors=tensors, values=document["values"])


def save_tree(folder: Path, tree: Mapping[str, Any]) -> dict[str, str]:
    """`save_state` of any nesting that `pack` takes."""
    return save_state(folder, pack(tree))


def load_tree(folder: Path) -> dict[str, Any]:
    """The reverse of `save_tree`."""
    return unpack(load_state(folder))


def _without_aliases(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that are the same memory (tied weights) are written once; the other names point to the first."""
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            key = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if (original := first.setdefault(key, name)) != name:
                aliases[name] = original
    return {name: tensor for name, tensor in tensors.items() if name not in aliases}, aliases


def save_text(path: Path, text: str) -> str:
    """Write and sync a small file; gives its sha256."""
    return save_pieces(path, [text.encode()])


def _self_hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
