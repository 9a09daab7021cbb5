"""The pages of signing in, joining and labeling, the files they need, health, and what browsers report."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from assent.errors import StoreError
from assent.feedback.records import PersonRole, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.studio.error_page import not_found
from assent.studio.schemas import Id, TokenInPath
from assent.studio.security import ANYONE, BROWSERS, Annotator, MaybeActor, SignedIn, guard_of
from assent.studio.templates import page
from assent.web.limits import RequestRate, raise_body_limit

STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_LARGEST_REPORT = 64 << 10
_LONGEST_REPORT, _REPORTS_PER_MINUTE = 500, 10  # characters and reports that the log is told, from all browsers
_LOG = logging.getLogger("assent.studio")


def pages_router(store: FeedbackStore) -> APIRouter:
    """The routes of pages and files."""
    router = APIRouter(include_in_schema=False)
    _add_doors(router, store)
    _add_files(router)
    _add_service(router, store)
    return router


def _add_doors(router: APIRouter, store: FeedbackStore) -> None:
    @router.get("/")
    def start(actor: MaybeActor) -> Response:
        """Wherever one's work is."""
        if actor is None:
            return RedirectResponse("/sign-in", 303)
        if actor.person.role is not PersonRole.ANNOTATOR:
            return RedirectResponse("/projects", 303)
        mine = [project for project in store.projects(person_id=actor.person.id) if not project.archived]
        return RedirectResponse(f"/label/{mine[0].id}" if len(mine) == 1 else "/label", 303)

    @router.get("/sign-in")
    def sign_in_page(actor: MaybeActor) -> Response:
        """Name and password."""
        return RedirectResponse("/", 303) if actor else page("sign_in.html", can_be_run=store.can_be_run())

    @router.get("/account")
    def account(actor: SignedIn) -> Response:
        """One's own password."""
        return page("account.html", actor=actor)

    @router.get("/join/{token}")
    def join_page(token: TokenInPath, _: MaybeActor) -> Response:
        """Choose a name and a password, once."""
        invitation = store.invitation(token)
        if invitation is None:
            raise not_found("this invitation does not exist, was used, or has expired")
        return page("join.html", invitation=invitation, token=token)

    @router.get("/label")
    def pick_project(actor: Annotator) -> Response:
        """One's projects."""
        person_id = None if actor.is_admin else actor.person.id
        mine = [project for project in store.projects(person_id=person_id) if not project.archived]
        return page("pick_project.html", actor=actor, projects=mine)

    @router.get("/label/{project_id}")
    def label(request: Request, project_id: Id, actor: Annotator) -> Response:
        """One screen, one decision."""
        project = guard_of(request).project_now(actor, project_id)
        if project.settings.mode in (TaskMode.CHAT, TaskMode.RED_TEAM):
            return RedirectResponse(f"/chat/{project_id}", 303)
        return page("label.html", actor=actor, project=project)


def _add_files(router: APIRouter) -> None:
    files = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}

    @router.get("/static/{name}", dependencies=[Depends(ANYONE)])
    def static(request: Request, name: str) -> Response:
        """A file of the pages: one of those that lay there at the start, looked up by its name."""
        path = files.get(name)
        if path is None:
            raise not_found()
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=_TYPES[path.suffix])

    @router.get("/favicon.ico", dependencies=[Depends(ANYONE)])
    def icon() -> Response:
        """Browsers ask for it unasked."""
        return Response(status_code=204)


def _add_service(router: APIRouter, store: FeedbackStore) -> None:
    known: tuple[int, dict[str, Any]] = 200, {"ok": True}
    trying = threading.Lock()

    @router.get("/healthz", dependencies=[Depends(ANYONE)])
    def health() -> Response:
        """Whether an answer could be kept now: tried by one request at a time, the others get what it found last."""
        nonlocal known
        if trying.acquire(blocking=False):
            try:
                store.check()
                known = 200, {"ok": True}
            except StoreError as error:
                known = 503, {"ok": False, "what": error.what, "now": error.now}
            finally:
                trying.release()
        status, told = known
        return JSONResponse(told, status)

    told = RequestRate(_REPORTS_PER_MINUTE)

    @router.post("/api/csp-report", dependencies=[Depends(BROWSERS)])
    async def content_policy_report(request: Request) -> Response:
        """A browser stopped something that the content policy forbids: counted, and told to the log."""
        raise_body_limit(request.scope, _LARGEST_REPORT)
        guard = guard_of(request)
        guard.reports += 1
        report = (await request.body())[:_LONGEST_REPORT].decode(errors="replace")
        if told.allows("anybody"):
            _LOG.warning("content policy report %d: %s", guard.reports, ascii(report))
        return Response(status_code=204)
