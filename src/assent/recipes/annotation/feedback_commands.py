"""`assent feedback import | export | stats | pairs`: judgement into a store and out of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from assent.config import Settings
from assent.data.load import write_bad_rows
from assent.durable import write_atomic
from assent.errors import ConfigError, DataError
from assent.feedback.exchange.entering import enter, mode_for
from assent.feedback.exchange.export_rows import ROW_FORMATS
from assent.feedback.exchange.exporting import ExportOptions, export
from assent.feedback.exchange.imported import Imported, ImportLimits, merge
from assent.feedback.exchange.training_data import Making
from assent.feedback.exchange.weighted_pairs import export_weighed
from assent.feedback.quality.resampling import Estimate
from assent.feedback.quality.statistics import Figures, LiveFigures, PersonFigures
from assent.feedback.records import Project, ProjectSettings, TaskMode
from assent.feedback.store.engine import parse_url
from assent.feedback.store.store import FeedbackStore
from assent.recipes.annotation.feedback_reading import ImportFile, ImportJob, read_import
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
    gold: bool = False
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
        store = opened.enter_context(_store(request, writing=True)) if _is_there(request) else None
        if store is not None:
            _known_project(store, request, settings)
        read = [
            (path, read_import(path, settings, format_name=files.format, skip=files.on_bad_row == "skip"))
            for path in map(Path, files.data)
        ]
        labelled = [_labelled(item, settings) for _, one in read for item in one.imported]
        imported = merge(labelled, ImportLimits(rows=settings.most_rows))
        store = store or opened.enter_context(_store(request, writing=True))
        project = _project_for_import(store, request, settings, imported)
        entered = enter(store, project.id, imported, gold=settings.answers == "gold")
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
    """The project's judgement as a file: --format says what a row holds, the ending of --out how rows are kept."""
    return _export(request, display, format_name=request.text("format") or "pairs")


def run_feedback_pairs(request: Request, display: Display) -> Path:
    """The project's comparisons, to train reward models and policies on."""
    return _export(request, display, format_name="pairs")


def run_feedback_stats(request: Request, display: Display) -> Figures:
    """Figures of the project on standard output; with --out also as JSON."""
    out = request.text("out")
    if out:
        refuse_existing(request.files)
    with _store(request, writing=False) as store:
        project = _project(store, request)
        found = LiveFigures(store).of(project.id)
        names = {person.id: person.name for person in store.people()}
    print("\n".join(lines_of(found, project, lambda person: names.get(person, f"person {person}"))), flush=True)
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(Path(out), json.dumps(found.to_json(), indent=1) + "\n")
        display.say(f"figures: {out}")
    return found


def lines_of(found: Figures, project: Project, name_of: Callable[[int], str]) -> list[str]:
    """The figures as text for a terminal."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.by_kind.items())
    lines = [
        f'project "{project.name}" ({project.settings.mode})',
        f"answers             {found.answers:,}   (all that stands: {kinds or 'nothing'}; {found.undone:,} undone)",
        f"median time         {found.median_ms / 1000:.1f} s, {found.per_hour:.0f} an hour in {found.hours:.1f} hours",
        f"useful labels       {found.useful:,}{_shares(found)}",
        f"agreement           {_estimate(found.agreement)}",
        f"control items       {_estimate(found.gold)}",
        f"silent repeats      {_estimate(found.self_agreement)}",
        f"best one stood first {_percent(found.position.first)}, by chance {_percent(found.position.expected)}",
    ]
    if found.cost is not None:
        each = f", {found.cost_per_useful_label:.2f} a useful label" if found.cost_per_useful_label is not None else ""
        lines.append(f"cost                {found.cost:.2f}{each}")
    for title, told in (("skipped", found.skips), ("flagged", found.flags)):
        if told:
            lines.append(f"{title:<19} {', '.join(f'{count:,} {word}' for word, count in told.items())}")
    if found.people:
        lines += ["", f"{'person':<24}{'answers':>9}{'median':>9}{'an hour':>9}{'gold':>8}{'self':>8}{'first':>8}"]
        lines += [_person(name_of(person), one) for person, one in found.people.items()]
    return lines


def _person(name: str, one: PersonFigures) -> str:
    shown = f"{name[:23]:<24}{one.answers:>9,}{one.median_ms / 1000:>7.1f} s{one.per_hour:>9.0f}"
    return shown + "".join(f"{_percent(share):>8}" for share in (one.gold, one.self_agreement, one.position.first))


def _estimate(one: Estimate) -> str:
    if one.value is None:
        return f"- ({one.reason})"
    between = f" [{_percent(one.low)}, {_percent(one.high)}]" if one.low is not None else ""
    return f"{_percent(one.value)}{between} of {one.count:,}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _shares(found: Figures) -> str:
    told = {word or "unnamed": share for word, share in found.serves.items()}
    return f"   ({', '.join(f'{word} {share:.0%}' for word, share in told.items())})" if len(told) > 1 else ""


def _export(request: Request, display: Display, *, format_name: str) -> Path:
    settings = request.settings(ExportJob)
    refuse_existing(request.files)
    out = request.files.out
    if settings.consensus == "reliability":
        return _export_weighed(request, display, settings, format_name)
    consensus = settings.consensus or ("votes" if format_name in _KEPT_APART else "soft")
    with _store(request, writing=False) as store:
        project = _project(store, request)
        making = Making(
            consensus=consensus, labels=settings.labels, weights=_weights(store, settings),
            criterion=settings.criterion, gold=settings.gold, repeats=settings.repeats,
        )  # fmt: skip
        count = export(store, project.id, out, ExportOptions(format=format_name, making=making, models=settings.models))
    what = format_name if format_name in ROW_FORMATS else "rows"
    display.say(f"{what}: {count:,} rows in {out}")
    return out


def _export_weighed(request: Request, display: Display, settings: ExportJob, format_name: str) -> Path:
    if format_name != "pairs":
        now = "Use --format pairs."
        raise ConfigError("only pairs have labels weighed by reliability", where="consensus", now=now)
    with _store(request, writing=False) as store:
        project = _project(store, request)
        found = export_weighed(store, project.id, request.files.out, criterion=settings.criterion, cap=settings.cap)
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


def _url(request: Request) -> str:
    url = request.text("store")
    if not url:
        raise ConfigError("no store was named", now="Name one with --store, e.g. --store judgement.db.")
    return url


def _store(request: Request, *, writing: bool) -> FeedbackStore:
    return FeedbackStore.open(_url(request), read_only=not writing)


def _project(store: FeedbackStore, request: Request) -> Project:
    """The project named by --project, or the only one."""
    name, projects = request.text("project"), store.projects()
    if name is None and len(projects) == 1:
        return projects[0]
    found = store.project_named(name) if name is not None else None
    if found is None:
        listed = ", ".join(f'"{project.name}"' for project in projects[:12]) or "none"
        what = f'there is no project "{name}"' if name is not None else "which project?"
        raise ConfigError(what, where="--project", now=f"There are: {listed}.")
    return found


def _is_there(request: Request) -> bool:
    """Whether the store is a file that exists."""
    url = parse_url(_url(request))
    return url.get_backend_name() == "sqlite" and bool(url.database) and Path(str(url.database)).is_file()


def _known_project(store: FeedbackStore, request: Request, settings: ImportJob) -> Project | None:
    """The project that the import goes into, if it is there; one of another mode is an error."""
    name = request.text("project")
    found = _project(store, request) if name is None else store.project_named(name)
    if found is not None and settings.mode is not None and found.settings.mode != settings.mode:
        raise DataError(
            f'the project "{found.name}" is of mode {found.settings.mode}, and a mode stays',
            where="--set mode",
            now="Leave it out, or name another project.",
        )
    return found


def _project_for_import(
    store: FeedbackStore, request: Request, settings: ImportJob, imported: tuple[Imported, ...]
) -> Project:
    found = _known_project(store, request, settings)
    if found is not None:
        return found
    mode = TaskMode(settings.mode) if settings.mode else mode_for(imported)
    made = ProjectSettings(mode=mode, overlap=settings.overlap, criteria=settings.criteria)
    return store.create_project(request.text("project") or "", made)


def _labelled(one: Imported, settings: ImportJob) -> Imported:
    """The item with the topic and purpose of the import, without its answers where they are not wanted."""
    item = one.item
    if (settings.topic and not item.topic) or (settings.serves and not item.serves):
        item = replace(item, topic=item.topic or settings.topic, serves=item.serves or settings.serves)
    return Imported(item=item, answers=() if settings.answers == "drop" else one.answers)
