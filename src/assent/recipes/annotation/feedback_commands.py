"""`assent feedback import | export | pairs`: annotations into a store and out of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from assent.config import Settings
from assent.data.load import write_bad_rows
from assent.errors import ConfigError, DataError
from assent.feedback.exchange.aggregation import Aggregation
from assent.feedback.exchange.export import export
from assent.feedback.exchange.export_rows import ROW_FORMATS, ExportOptions
from assent.feedback.exchange.imported_items import ImportedItem, ImportLimits, merge
from assent.feedback.exchange.store_import import import_items, mode_for
from assent.feedback.exchange.weighted_pairs import export_weighted
from assent.feedback.records import Project, ProjectSettings, TaskMode
from assent.feedback.store.engine import parse_url
from assent.feedback.store.store import FeedbackStore
from assent.recipes.annotation.feedback_reading import ImportFile, ImportJob, read_import
from assent.recipes.annotation.opened_store import chosen_project, open_store, store_url
from assent.recipes.run.inputs import refuse_existing, require_data
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request

_SHOWN_BAD_ROWS = 20
_KEPT_APART = ("rankings", "ratings")  # formats in which each answer stays a row of its own unless asked otherwise


class ExportJob(Settings):
    """`assent feedback export` and `pairs`. `weights` are by a person's number or name; 1 where none is given.

    Without `consensus` people's votes become soft labels; rankings and ratings stay one a person. "reliability" makes
    pairs whose labels weigh people by how far they can be trusted; `cap` is the largest share of weight of one of them.
    """

    consensus: Literal["soft", "votes", "majority", "reliability"] | None = None
    cap: float | None = Field(default=None, gt=0, le=1)
    labels: Literal["probability", "margin", "binary"] = "probability"
    criterion: str = ""
    weights: dict[str, float] = Field(default_factory=dict)
    control_items: bool = False
    repeats: bool = False
    models: bool = False


def run_feedback_import(request: Request, display: Display) -> None:
    """Items, with their answers, of all --data files into a project, which is made if it is not there.

    A store that is there is opened and its project looked at first, so that nothing is read in vain; a new one is made
    only when everything has been read. Bad rows are written last.
    """
    files, settings = request.files, request.settings(ImportJob)
    require_data(files)
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(open_store(request, writing=True)) if _is_there(request) else None
        if store is not None:
            _known_project(store, request, settings)
        read = [
            (path, read_import(path, settings, format_name=files.format, skip=files.on_bad_row == "skip"))
            for path in map(Path, files.data)
        ]
        labelled = [_labelled(item, settings) for _, one in read for item in one.imported]
        imported = merge(labelled, ImportLimits(rows=settings.most_rows))
        store = store or opened.enter_context(open_store(request, writing=True))
        project = _known_project(store, request, settings)
        if project is None:
            mode = TaskMode(settings.mode) if settings.mode else mode_for(imported)
            made = ProjectSettings(mode=mode, overlap=settings.overlap, criteria=settings.criteria)
            project = store.create_project(request.text("project") or "", made)
        entered = import_items(store, project.id, imported, as_controls=settings.answers == "control")
    for path, one in read:
        _say_what_was_read(request, path, one, display)
    told = f"{entered.added} items added, {entered.known} were there already"
    if entered.people:
        told += f"; {entered.answers} answers of {entered.people} people kept"
    display.say(f'project "{project.name}" ({project.settings.mode}): {told}')


def _say_what_was_read(request: Request, path: Path, one: ImportFile, display: Display) -> None:
    answers = sum(len(item.answers) for item in one.imported)
    display.say(f"{path}: {len(one.imported)} items, {answers} answers")
    for note in one.notes:
        display.say(f"  {note}")
    for row, reason in one.bad[:_SHOWN_BAD_ROWS]:
        display.say(f"  {row.place}: {reason}")
    if one.bad:
        aside = _aside(request, path)
        write_bad_rows(one.bad, aside)
        display.say(f"  the bad rows lie in {aside}")


def run_feedback_export(request: Request, display: Display) -> Path:
    """The project's annotations as a file: --format says what a row holds, the ending of --out how rows are kept."""
    return _export(request, display, format_name=request.text("format") or "pairs")


def run_feedback_pairs(request: Request, display: Display) -> Path:
    """The project's comparisons, to train reward models and policies on."""
    return _export(request, display, format_name="pairs")


def _export(request: Request, display: Display, *, format_name: str) -> Path:
    settings = request.settings(ExportJob)
    refuse_existing(request.files)
    out = request.files.out
    if settings.consensus == "reliability":
        return _export_weighted(request, display, settings, format_name)
    consensus = settings.consensus or ("votes" if format_name in _KEPT_APART else "soft")
    with open_store(request, writing=False) as store:
        project = chosen_project(store, request)
        aggregation = Aggregation(
            consensus=consensus, labels=settings.labels, weights=_weights(store, settings),
            criterion=settings.criterion, control_items=settings.control_items, repeats=settings.repeats,
        )  # fmt: skip
        options = ExportOptions(format=format_name, aggregation=aggregation, models=settings.models)
        count = export(store, project.id, out, options)
    what = format_name if format_name in ROW_FORMATS else "rows"
    display.say(f"{what}: {count:,} rows in {out}")
    return out


def _export_weighted(request: Request, display: Display, settings: ExportJob, format_name: str) -> Path:
    if format_name != "pairs":
        now = "Use --format pairs."
        raise ConfigError("only pairs have labels weighed by reliability", where="consensus", now=now)
    with open_store(request, writing=False) as store:
        project = chosen_project(store, request)
        found = export_weighted(store, project.id, request.files.out, criterion=settings.criterion, cap=settings.cap)
        names = {person.id: person.name for person in store.people()}
    for one in sorted(found.people, key=lambda person: -person.accuracy):
        trusted = f"right {one.accuracy:.0%} [{one.low:.0%}, {one.high:.0%}] of {one.answers:,}"
        display.say(f"{names.get(one.person_id, f'person {one.person_id}')}: {trusted}")
    display.say(f"pairs: {found.pairs:,} rows in {request.files.out}")
    return request.files.out


def _weights(store: FeedbackStore, settings: ExportJob) -> dict[int, float]:
    people = {person.name.casefold(): person.id for person in store.people()}
    weights = {}
    for name, weight in settings.weights.items():
        number = int(name) if name.isdecimal() else people.get(name.casefold())
        if number is None or number not in people.values():
            raise ConfigError(f'there is no person "{name}"', where="weights", now="Give a number or a name.")
        weights[number] = weight
    return weights


def _aside(request: Request, path: Path) -> Path:
    """Where bad rows go: beside the store's file, or into the present folder where the store is a database."""
    url = request.text("store")
    namesakes = [one for one in dict.fromkeys(map(Path, request.files.data)) if one.name == path.name]
    number = f"-{namesakes.index(path) + 1}" if len(namesakes) > 1 else ""
    name = f"bad-rows-{path.name}{number}.jsonl"
    store = parse_url(url) if url else None
    if store is None or store.get_backend_name() != "sqlite":
        return Path(name)
    return Path(f"{store.database}.{name}")


def _is_there(request: Request) -> bool:
    """Whether the store is a file that exists."""
    url = parse_url(store_url(request))
    return url.get_backend_name() == "sqlite" and bool(url.database) and Path(str(url.database)).is_file()


def _known_project(store: FeedbackStore, request: Request, settings: ImportJob) -> Project | None:
    """The project that the import goes into, if it is there; one of another mode is an error."""
    name = request.text("project")
    found = chosen_project(store, request) if name is None else store.project_named(name)
    if found is not None and settings.mode is not None and found.settings.mode != settings.mode:
        what = f'the project "{found.name}" is of mode {found.settings.mode}, and a mode stays'
        raise DataError(what, where="--set mode", now="Leave it out, or name another project.")
    return found


def _labelled(one: ImportedItem, settings: ImportJob) -> ImportedItem:
    """The item with the topic and purpose of the import, without its answers where they are not wanted."""
    item = one.item
    if (settings.topic and not item.topic) or (settings.serves and not item.serves):
        item = replace(item, topic=item.topic or settings.topic, serves=item.serves or settings.serves)
    return ImportedItem(item=item, answers=() if settings.answers == "drop" else one.answers)
