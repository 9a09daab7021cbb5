"""Input files of the commands: read, said aloud, and remembered in the lineage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assent.algorithms.methods import Reads
from assent.data.examples import Kind
from assent.data.files import SourceFile
from assent.data.formats import format_named
from assent.data.labels import check_labels
from assent.data.load import (
    Dataset,
    ReadOptions,
    Source,
    load_comparisons,
    load_demonstrations,
    load_dialogues,
    load_labels,
    load_prompts,
    load_rankings,
    load_ratings,
)
from assent.errors import ConfigError, DataError
from assent.recipes.run.progress import Display
from assent.recipes.run.reading_settings import Learn, Reading
from assent.runs.lineage import DataSource

Load = Callable[[Source, ReadOptions], Dataset[Any]]
LOADS: dict[Reads, Load] = {
    "demonstrations": load_demonstrations,
    "comparisons": load_comparisons,
    "rankings": load_rankings,
    "labels": load_labels,
    "dialogues": load_dialogues,
    "prompts": load_prompts,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What was said of input and output. `rows` is judgement that a program holds in memory, beside its files."""

    model: str
    out: Path
    data: tuple[str, ...] = ()
    rows: tuple[SourceFile, ...] = ()
    eval_data: tuple[str, ...] = ()
    format: str | None = None
    on_bad_row: str = "stop"
    resume: bool = False
    overwrite: bool = False
    command: str = ""  # as it was typed


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Examples of all files of one role together, their lineage, and what there is to say of the reading."""

    examples: tuple[Any, ...]
    sources: tuple[DataSource, ...]
    notes: tuple[str, ...] = ()


def require_data(files: Files, *, otherwise: str = "") -> None:
    """At least one --data file; `otherwise` names what may stand in its place."""
    if not files.data:
        raise ConfigError("no data was given", now=f"Name a file with --data{otherwise}.")


def refuse_existing(files: Files) -> None:
    """An output file that is there is not replaced unasked."""
    if files.out.is_dir():
        raise ConfigError(
            "this is a folder; a file is written here", where=str(files.out), now="Name a file with --out."
        )
    if files.out.exists() and not files.overwrite:
        raise ConfigError("the file exists", where=str(files.out), now="Give another --out, or --overwrite.")


def read_all(
    sources: Sequence[Source],
    load: Load,
    files: Files,
    display: Display,
    *,
    role: str,
    limit: int | None = None,
    reading: Reading = Reading(),
) -> Read:
    """Read every file with `load`, say what it was taken for, set bad rows aside beside the output."""
    found = _read(sources, load, files, role=role, limit=limit, reading=reading)
    for note in found.notes:
        display.say(note)
    return found


def read_judgement(
    files: Files,
    display: Display,
    *,
    learn: Learn,
    reading: Reading,
    limit: int | None,
    ranked: bool = False,
    role: str = "train",
) -> tuple[Read, Load]:
    """The judgement in files and rows and how it was read: comparisons (`ranked`: rankings), or good/bad labels.

    With `learn` auto, single completions that are labelled good or bad are labels; all else is comparisons. Scores that
    lie outside 0 to 1 are never labels: where they leave nothing to compare, that is a DataError.
    """
    compared: Load = load_rankings if ranked else load_comparisons
    load = load_labels if learn == "labels" else compared
    sources: tuple[Source, ...] = (*files.data, *files.rows)
    try:
        found = _read(sources, load, files, role=role, limit=limit, reading=reading)
    except DataError as error:
        if learn != "auto":
            raise
        labels = _labels(files, role=role, limit=limit, reading=reading)
        if labels is None:
            raise error from None
        check_labels(
            labels.examples, ", ".join(one.path if isinstance(one, SourceFile) else str(one) for one in sources)
        )
        found, load = labels, load_labels
    else:
        single = all(format_named(source.format or "").kind is Kind.RATINGS for source in found.sources)
        labels = _labels(files, role=role, limit=limit, reading=reading) if learn == "auto" and single else None
        if labels is not None and all(one.score in (0.0, 1.0) for one in labels.examples):
            found, load = labels, load_labels
    for note in found.notes:
        display.say(note)
    return found, load


def _labels(files: Files, *, role: str, limit: int | None, reading: Reading) -> Read | None:
    """The files as ratings, or None where they hold none."""
    try:
        return _read((*files.data, *files.rows), load_ratings, files, role=role, limit=limit, reading=reading)
    except DataError:
        return None


def _read(given: Sequence[Source], load: Load, files: Files, *, role: str, limit: int | None, reading: Reading) -> Read:
    examples: list[Any] = []
    sources: list[DataSource] = []
    notes: list[str] = []
    for source in given:
        aside = None if files.on_bad_row != "skip" or isinstance(source, SourceFile) else _aside(source, files)
        options = ReadOptions(
            format=files.format,
            on_bad_row="skip" if files.on_bad_row == "skip" else "stop",
            bad_rows_to=aside,
            limit=limit,
            positive_labels=reading.positive_labels,
            negative_labels=reading.negative_labels,
            keep_ties=reading.keep_ties,
            margin_per_score=reading.margin_per_score,
            columns=reading,
        )
        dataset = load(source, options)
        examples.extend(dataset.examples)
        notes.append(f"{role}: {len(dataset.examples)} from {dataset.path} ({dataset.format})")
        notes.extend(f"  {note}" for note in dataset.notes)
        if dataset.bad_rows and aside is not None:
            notes.append(f"  the bad rows lie in {aside}")
        name, rows = Path(dataset.path).name, len(dataset.examples)
        sources.append(DataSource(role=role, name=name, sha256=dataset.sha256, rows=rows, format=dataset.format))
    return Read(examples=tuple(examples), sources=tuple(sources), notes=tuple(notes))


def _aside(path: str | Path, files: Files) -> Path:
    """Where bad rows go: beside the output, one file for each input (those of equal names by number)."""
    namesakes = [one for one in dict.fromkeys((*files.data, *files.eval_data)) if Path(one).name == Path(path).name]
    number = f"-{namesakes.index(str(path)) + 1}" if len(namesakes) > 1 else ""
    out = files.out if files.out.name else files.out.absolute()
    return out.parent / f"{out.name}.bad-rows-{Path(path).name}{number}.jsonl"


def model_folder(path: str) -> str:
    """The model of a run folder (its `model/`), or the path as it is."""
    inside = Path(path) / "model"
    return str(inside) if (inside / "config.json").is_file() or (inside / "adapter_config.json").is_file() else path
