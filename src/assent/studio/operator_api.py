"""What the operator's pages ask for while somebody looks at them, exports, and the withdrawing of items."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from assent.errors import StoreError
from assent.feedback.exchange.export import export
from assent.feedback.exchange.export_rows import ExportOptions
from assent.feedback.store.store import FeedbackStore
from assent.studio.operator_pages import operator_pages_router
from assent.studio.operator_views import OperatorViews
from assent.studio.overview import rows_view
from assent.studio.run_view import run_view, sample_view
from assent.studio.runs import RunFolders
from assent.studio.schemas import HIGHEST_ID, Id, Incoming, OneId
from assent.studio.security import Admin, Viewer, guard_of
from assent.studio.settings import StudioSettings
from assent.web.refused import Refused

RunName = Annotated[str, Query(min_length=1, max_length=800)]
Cursor = Annotated[str, Query(max_length=60)]
ProjectChoice = Annotated[int | None, Query(ge=1, le=HIGHEST_ID)]
_MEDIA = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


class WithdrawIn(Incoming):
    """Items that nobody shall be asked any more."""

    item_ids: Annotated[list[OneId], Field(min_length=1, max_length=10_000)]


def operator_routers(store: FeedbackStore, settings: StudioSettings) -> list[APIRouter]:
    """The operator's pages and what they ask for."""
    views = OperatorViews(store, settings)
    router = APIRouter(prefix="/api/operator", tags=["operator"])
    _add_projects(router, views)
    _add_runs(router, views)
    return [router, _exports(store), operator_pages_router(views)]


def _add_projects(router: APIRouter, views: OperatorViews) -> None:
    @router.get("/projects")
    def projects(actor: Viewer) -> dict[str, Any]:
        """Figures of the list of projects."""
        mine = [project for project in views.projects(actor) if not project.archived]
        return rows_view(views.project_rows(mine))

    @router.get("/projects/{project_id}")
    def project(request: Request, project_id: Id, actor: Viewer) -> dict[str, Any]:
        """Figures of one project."""
        return views.overview(guard_of(request).project_now(actor, project_id))

    @router.get("/arena")
    def arena(request: Request, actor: Viewer, project: ProjectChoice = None) -> dict[str, Any]:
        """Standings over one project, or over all that the actor may look at."""
        if project is not None:
            return views.arena([guard_of(request).project_now(actor, project)])
        return views.arena(views.projects(actor))

    @router.post("/projects/{project_id}/withdraw")
    def withdraw(project_id: Id, given: WithdrawIn, _: Admin) -> dict[str, Any]:
        """Take items out of the queue; their answers stay."""
        views.store.project(project_id)
        views.store.withdraw_items(project_id, list(dict.fromkeys(given.item_ids)))
        return {"withdrawn": len(set(given.item_ids))}


def _add_runs(router: APIRouter, views: OperatorViews) -> None:
    def folders() -> RunFolders:
        if views.runs is None:
            raise Refused(404, "the studio watches no folder of runs", now="Start it with --runs FOLDER.")
        return views.runs

    @router.get("/runs")
    def runs(_: Viewer) -> dict[str, Any]:
        """Every run, the latest first."""
        return {"runs": views.run_list()}

    @router.get("/run")
    def run(_: Viewer, run: RunName) -> dict[str, Any]:
        """Where one run stands."""
        return run_view(folders().run(run), views.now())

    @router.get("/run/metrics")
    def metrics(_: Viewer, run: RunName, cursor: Cursor = "") -> dict[str, Any]:
        """The next rows of numbers after a cursor."""
        return asdict(folders().metrics(run, cursor))

    @router.get("/run/samples")
    def samples(_: Viewer, run: RunName) -> dict[str, Any]:
        """The latest completions."""
        return {"samples": [sample_view(sample) for sample in folders().samples(run)]}


def _exports(store: FeedbackStore) -> APIRouter:
    router = APIRouter(tags=["operator"])

    @router.get("/api/projects/{project_id}/export")
    def export_project(
        project_id: Id,
        _: Admin,
        format: Annotated[str, Query(max_length=40)] = "pairs",  # noqa: A002
        file: Literal["jsonl", "csv", "parquet"] = "jsonl",
        models: bool = False,
    ) -> Response:
        """The project's annotations as a file, made whole before it is sent."""
        store.project(project_id)
        folder = tempfile.TemporaryDirectory(prefix="assent-export-")
        path = Path(folder.name) / f"project-{project_id}-{format}.{file}"
        try:
            export(store, project_id, path, ExportOptions(format=format, models=models))
        except BaseException as error:
            folder.cleanup()
            if isinstance(error, StoreError) and not path.exists():
                now = "Nothing can be exported in this form yet."
                raise Refused(409, error.what, where="format", now=now) from None
            raise
        after = BackgroundTask(folder.cleanup)
        return FileResponse(path, filename=path.name, media_type=_MEDIA[file], background=after)

    return router
