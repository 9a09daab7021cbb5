"""A tally kept on disk, so that a server that starts need not read a million events again: one .npz file, a cache.

The file says up to which event it goes and that event's hash; it is used only if the store has just this event. It may
be deleted at any time. Nothing in it is executable: arrays are read without pickles.
"""

from __future__ import annotations

import json
import zipfile
from array import array
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from assent.durable import whole_file
from assent.feedback.annotation_source import AnnotationSource
from assent.feedback.quality.tally import KINDS, REASONS, Columns, Items, Tally

_FORM = 3  # raised when the columns change
_SIGNS = {"better": 1, "worse": -1, "level": 0}


def save_tally(tally: Tally, path: Path) -> None:
    """Write what the tally has read; RunError when the file system refuses."""
    with tally.lock:
        about = {**_about(tally.project_id), "seq": tally.last_seq, "sha256": tally.last_sha256, "serves": tally.serves}
        held: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
        held |= {name: np.array(column) for name, column in _columns(tally)}
        for name, lists in (("control", tally.control), ("repeated", tally.repeated)):
            held[name] = np.frombuffer(json.dumps({str(k): list(v) for k, v in lists.items()}).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(file, **held)


def load_tally(source: AnnotationSource, project_id: int, path: Path) -> Tally | None:
    """The tally of the file if it fits the store, else None; `refresh` then reads what came since."""
    tally = Tally(source, project_id)
    try:
        with np.load(path, allow_pickle=False) as held:
            about = json.loads(bytes(held["about"]))
            if {name: about[name] for name in _about(project_id)} != _about(project_id):
                return None
            for name, column in _columns(tally):
                column.frombytes(np.ascontiguousarray(held[name], dtype=column.typecode).tobytes())
            for name, lists in (("control", tally.control), ("repeated", tally.repeated)):
                lists.update({int(place): listed for place, listed in json.loads(bytes(held[name])).items()})
            tally.serves = [str(word) for word in about["serves"]]
            tally.last_sha256 = str(about["sha256"])
            last = int(about["seq"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        return None
    newest = source.events(project_id, after=last - 1, limit=1)
    fits = bool(newest) and newest[0].seq == last == tally.last_seq and newest[0].sha256 == tally.last_sha256
    return tally if fits else None


def _about(project_id: int) -> dict[str, Any]:
    """What must be equal for a file to be read at all."""
    columns = [one.name for part in (Columns, Items) for one in fields(part)]
    return {"form": _FORM, "project": project_id, "kinds": list(KINDS), "reasons": list(REASONS), "columns": columns}


def _columns(tally: Tally) -> Iterator[tuple[str, array[Any]]]:
    """Every column by its name in the file."""
    for name, part in (("event", tally.columns), ("item", tally.items)):
        yield from ((f"{name}.{one.name}", getattr(part, one.name)) for one in fields(part))
    yield from ((name, tally.cells[sign]) for name, sign in _SIGNS.items())
    yield "signs", tally.signs
