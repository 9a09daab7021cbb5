"""The operator's pages: projects, items, guidelines, settings, people, runs, the arena."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from assent.feedback.exchange.export_rows import ROW_FORMATS
from assent.feedback.records import Guideline, Item, PersonRole, Project, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.studio import wording
from assent.studio.error_page import not_found
from assent.studio.figures import COMPARING
from assent.studio.item_search import PURPOSES, STATES, Filter, answers_to, letter, marks_of, search, told, why_covered
from assent.studio.operator_views import OperatorViews
from assent.studio.overview import FIGURES, PEOPLE_HEAD
from assent.studio.run_view import run_view
from assent.studio.schemas import HIGHEST_ID, After, Id, Version
from assent.studio.security import Admin, Viewer, guard_of
from assent.studio.templates import page

Choice = Annotated[str, Query(max_length=200)]
MODES = tuple((mode.value, wording.MODE_NAMES[mode], wording.MODE_TASKS[mode]) for mode in TaskMode)
_FORMAT_WORDS = {
    "pairs": "chosen and rejected with soft labels and lineage",
    "trl": "TRL preference, plain text",
    "trl-conversational": "TRL preference, messages",
    "rankings": "whole rankings",
    "ratings": "scores by criterion",
    "demonstrations": "conversations to imitate",
    "corrections": "edited over original",
    "red-team": "attempts and how far they got",
    "label-studio": "tasks with annotations",
    "events": "the record itself",
}
_NEW = ProjectSettings(overlap=2, control_share=0.05, repeat_share=0.05)
_LONGEST_DOCUMENT = 60_000


def _filter(
    text: Choice = "", state: Choice = "", topic: Choice = "", batch: Choice = "", serves: Choice = ""
) -> Filter:
    return Filter(text=text.strip(), state=state, topic=topic.strip(), batch=batch.strip(), serves=serves)


def operator_pages_router(views: OperatorViews) -> APIRouter:
    """The routes of the operator's pages."""
    router = APIRouter(include_in_schema=False)
    _add_projects(router, views)
    _add_items(router, views)
    _add_set_up(router, views)
    _add_people(router, views.store)
    _add_runs(router, views)
    return router


def _add_projects(router: APIRouter, views: OperatorViews) -> None:
    @router.get("/projects")
    def projects(actor: Viewer) -> Response:
        """All projects at a glance."""
        mine = views.projects(actor)
        present, archived = ([one for one in mine if one.archived is away] for away in (False, True))
        rows: dict[str, Any] = {"projects": views.project_rows(present), "archived": views.project_rows(archived)}
        endpoints = sorted(views.settings.endpoints)
        return page("projects.html", actor=actor, **rows, blank=_NEW, modes=MODES, endpoints=endpoints)

    @router.get("/projects/{project_id}")
    def project(request: Request, project_id: Id, actor: Viewer) -> Response:
        """How far one project is and how good its answers are."""
        found = guard_of(request).project_now(actor, project_id)
        context: dict[str, Any] = {"view": views.overview(found), "figures": FIGURES, "people_head": PEOPLE_HEAD}
        formats = [(name, _FORMAT_WORDS.get(name, "")) for name in ROW_FORMATS]
        compares = found.settings.mode in COMPARING
        return page("project.html", **_head(found, actor), **context, compares=compares, formats=formats)

    @router.get("/arena")
    def arena(request: Request, actor: Viewer, project: Choice = "") -> Response:
        """Which model people prefer."""
        mine = views.projects(actor)
        chosen = int(project) if project.isascii() and project.isdigit() and len(project) < 10 else None
        if project and (chosen is None or chosen > HIGHEST_ID or chosen < 1):
            raise not_found("there is no such project")
        asked = mine if chosen is None else [guard_of(request).project_now(actor, chosen)]
        return page("arena.html", actor=actor, projects=mine, chosen=chosen, view=views.arena(asked))


def _add_items(router: APIRouter, views: OperatorViews) -> None:
    @router.get("/projects/{project_id}/items")
    def items(
        request: Request, project_id: Id, actor: Viewer, wanted: Annotated[Filter, Depends(_filter)], after: After = 0
    ) -> Response:
        """The project's items, filtered."""
        found = guard_of(request).project_now(actor, project_id)
        result = search(views.store, found, wanted, after=after)
        address, given = f"/projects/{project_id}/items", {name: v for name, v in asdict(wanted).items() if v}
        context: dict[str, Any] = {
            "given": wanted,
            "found": result,
            "states": STATES,
            "purposes": PURPOSES,
            "after": after,
        }
        context["first_page"] = f"{address}?{urlencode(given)}"
        context["next_page"] = f"{address}?{urlencode({**given, 'after': result.next})}"
        return page("items.html", **_head(found, actor), **context)

    @router.get("/projects/{project_id}/items/{item_id}")
    def item(request: Request, project_id: Id, item_id: Id, actor: Viewer) -> Response:
        """One item with every standing answer."""
        found = guard_of(request).project_now(actor, project_id)
        shown = views.store.item(item_id)
        if shown.project_id != project_id:
            raise not_found("there is no such item")
        return page("item.html", **_head(found, actor), **_item(views, shown, found))


def _add_set_up(router: APIRouter, views: OperatorViews) -> None:
    store = views.store

    @router.get("/projects/{project_id}/guidelines")
    def guidelines(request: Request, project_id: Id, actor: Viewer, version: Version = None) -> Response:
        """The guidelines: their versions, and writing the next."""
        found = guard_of(request).project_now(actor, project_id)
        shown = store.guideline(project_id, version)
        if version is not None and shown is None:
            raise not_found("there is no such version")
        newest_first = range(found.guideline_version, max(0, found.guideline_version - 200), -1)
        versions = [_guideline(one) for n in newest_first if (one := store.guideline(project_id, n)) is not None]
        told = _guideline(shown) if shown else None
        return page("guidelines.html", **_head(found, actor), shown=told, versions=versions)

    @router.get("/projects/{project_id}/settings")
    def settings(project_id: Id, actor: Admin) -> Response:
        """How the project asks, who works on it, and putting it away."""
        found = store.project(project_id)
        return page(
            "project_settings.html",
            **_head(found, actor),
            modes=MODES,
            endpoints=sorted({*views.settings.endpoints, *found.settings.endpoints}),
            people=[person for person in store.people() if person.role is not PersonRole.ADMIN],
            member_ids={person.id for person in store.members(project_id)},
            answers=store.progress(project_id).answers,
        )


def _add_people(router: APIRouter, store: FeedbackStore) -> None:
    @router.get("/people")
    def people(actor: Admin) -> Response:
        """Everybody with an account, and invitations."""
        projects = store.projects()
        members = {project.id: {person.id for person in store.members(project.id)} for project in projects}
        rows = [
            {
                "id": person.id,
                "name": person.name,
                "role": str(person.role),
                "active": person.active,
                "since": wording.date(person.created_at)[:10],
                "projects": [one for one in projects if person.id in members[one.id] and not one.archived],
            }
            for person in store.people()
        ]
        open_ones = [project for project in projects if not project.archived]
        roles = [str(role) for role in PersonRole]
        return page("people.html", actor=actor, people=rows, projects=open_ones, roles=roles)


def _add_runs(router: APIRouter, views: OperatorViews) -> None:
    @router.get("/runs")
    def runs(actor: Viewer) -> Response:
        """The training runs of the watched folder."""
        return page("runs.html", actor=actor, configured=views.runs is not None, runs=views.run_list())

    @router.get("/runs/{name:path}")
    def run(name: str, actor: Viewer) -> Response:
        """One run with its curves and samples."""
        if views.runs is None:
            raise not_found("the studio watches no folder of runs")
        found = views.runs.run(name)
        documents: dict[str, Any] = {kind: _document(views.runs.document(name, kind)) for kind in ("config", "lineage")}
        return page("run.html", actor=actor, run=run_view(found, views.now()), **documents)


def _head(project: Project, actor: object) -> dict[str, Any]:
    return {"actor": actor, "project": project, "mode_name": wording.MODE_NAMES[project.settings.mode]}


def _guideline(guideline: Guideline) -> dict[str, Any]:
    when = wording.date(guideline.created_at)
    return {"version": guideline.version, "text": guideline.text, "author": guideline.author, "when": when}


def _item(views: OperatorViews, item: Item, project: Project) -> dict[str, Any]:
    events, names = answers_to(views.store, item), views.names()
    notes = [one.checkpoint_sha256 and f"checkpoint {one.checkpoint_sha256[:12]}" for one in item.new.candidates]
    return {
        "item": item,
        "covered": why_covered(item, events, project),
        "marks": marks_of(item, events, project),
        "candidates": [
            {"letter": letter(i), "text": one.text, "model": one.model, "note": notes[i]}
            for i, one in enumerate(item.new.candidates)
        ],
        "answers": [
            {
                "who": names.get(event.person_id, f"person {event.person_id}"),
                "kind": wording.KIND_NAMES[event.kind],
                "repeat": event.repeat,
                "told": told(event),
                "time": wording.seconds(event.time_taken_ms / 1000),
                "guideline": event.guideline_version or wording.NOTHING,
                "when": wording.ago(event.created_at, views.now()),
            }
            for event in events
        ],
        "facts": _facts(item),
    }


def _facts(item: Item) -> list[tuple[str, str]]:
    new = item.new
    known = json.dumps(dict(new.control_answer), ensure_ascii=False) if new.control_answer is not None else ""
    facts = [
        ("Added", f"{wording.date(item.created_at)} UTC"),
        ("Key", new.key),
        ("Batch", new.batch),
        ("Topic", new.topic),
        ("Asked for", new.serves.replace("_", " ")),
        ("Priority", f"{new.priority:g}"),
        ("Known answer", known),
    ]
    return [(name, value) for name, value in facts if value]


def _document(document: dict[str, Any]) -> str:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= _LONGEST_DOCUMENT else f"{clean[:_LONGEST_DOCUMENT]}\n…"
