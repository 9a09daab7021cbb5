"""Input files of the commands: read, said aloud, and remembered in the lineage."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from assent.data.load import Dataset, ReadOptions
from assent.lineage import DataSource
from assent.recipes.progress import Display

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What the command line says of input and output."""

    model: str
    out: Path
    data: tuple[str, ...] = ()
    eval_data: tuple[str, ...] = ()
    format: str | None = None
    on_bad_row: str = "stop"
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Examples of all files of one role together, and their lineage."""

    examples: tuple  # type: ignore[type-arg]
    sources: tuple[DataSource, ...]


def read_all(
    paths: tuple[str, ...],
    load: Callable[[str, ReadOptions], Dataset[Item]],
    files: Files,
    display: Display,
    *,
    role: str,
    limit: int | None = None,
) -> Read:
    """Read every file with `load`, say what it was taken for, set bad rows aside beside the output."""
    examples: list[Item] = []
    sources = []
    for path in paths:
        aside = files.out.with_name(f"{files.out.name}.bad-rows-{Path(path).name}.jsonl")
        options = ReadOptions(
            format=files.format,
            on_bad_row="skip" if files.on_bad_row == "skip" else "stop",
            bad_rows_to=aside if files.on_bad_row == "skip" else None,
            limit=limit,
        )
        dataset = load(path, options)
        examples.extend(dataset.examples)
        display.say(f"{role}: {len(dataset.examples)} from {path} ({dataset.format})")
        for note in dataset.notes:
            display.say(f"  {note}")
        if dataset.bad_rows:
            display.say(f"  {dataset.bad_rows} bad rows lie in {aside}")
        sources.append(
            DataSource(
                role=role,
                name=Path(path).name,
                sha256=dataset.sha256,
                rows=len(dataset.examples),
                format=dataset.format,
            )
        )
    return Read(examples=tuple(examples), sources=tuple(sources))


def model_folder(path: str) -> str:
    """The model of a run folder (its `model/`), or the path as it is."""
    inside = Path(path) / "model"
    return str(inside) if (inside / "config.json").is_file() or (inside / "adapter_config.json").is_file() else path
