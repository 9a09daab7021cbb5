"""What went wrong, where, and what to do now: as JSON for programs, as a page for people, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assent.errors import AssentError, ConfigError, DataError, RunError
from assent.feedback.refusals import Invalid, NotFound, Taken
from assent.studio.templates import page
from assent.web.refused import Refused

_LOG = logging.getLogger("assent.studio")
_WORDS = {
    400: "the request cannot be read",
    401: "nobody is signed in",
    403: "this is not allowed",
    404: "there is nothing here",
    405: "this address does not take that method",
    408: "the request took too long to arrive",
    413: "too much was sent at once",
}
_STATUS: tuple[tuple[type[AssentError], int], ...] = (
    (NotFound, 404),
    (Taken, 409),
    (Invalid, 422),
    (DataError, 422),
    (ConfigError, 422),
    (RunError, 409),
)
_AGAIN = "Try again; if it happens again, tell who runs the studio: its log has the details."


def not_found(what: str = _WORDS[404]) -> Refused:
    """What somebody gets who asks for what does not exist or is not theirs: the same for both."""
    return Refused(404, what)


def refusal_of(error: AssentError) -> Refused:
    """An error of ours as an answer to a request."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 503)
    if status == 503:  # where the machine failed is for the log, not for who asked
        _LOG.warning("%s", error)
        return Refused(503, error.what, now=error.now or _AGAIN, headers={"Retry-After": "5"})
    return Refused(status, error.what, where=error.where, now=error.now)


def as_response(request: Request, refused: Refused) -> Response:
    """JSON for the API; for pages a redirection to the sign-in, or a page that says the same."""
    is_api = URL(scope=request.scope).path.startswith("/api/")
    error = {"what": refused.what, "where": refused.where, "now": refused.now}
    if not is_api and "text/html" in request.headers.get("accept", ""):
        if refused.status_code == 401:
            return RedirectResponse("/sign-in", 303)
        response: Response = page("error.html", status=refused.status_code, **error)
        response.headers.update(refused.headers or {})
        return response
    return JSONResponse({"error": error}, refused.status_code, headers=refused.headers)


def install(app: FastAPI) -> None:
    """Answer every kind of error of `app` in this way."""

    async def on_http(request: Request, error: Exception) -> Response:
        if isinstance(error, Refused):
            return as_response(request, error)
        assert isinstance(error, HTTPException)
        what = _WORDS.get(error.status_code, str(error.detail))
        return as_response(request, Refused(error.status_code, what, headers=error.headers))

    async def on_fields(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return as_response(request, refusal_of_fields(error.errors()))

    async def on_own(request: Request, error: Exception) -> Response:
        assert isinstance(error, AssentError)
        return as_response(request, refusal_of(error))

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_fields)
    app.add_exception_handler(AssentError, on_own)


def refusal_of_fields(errors: Sequence[Mapping[str, Any]], *, place: str = "") -> Refused:
    """422 with the path of the first field that cannot be used; `place` goes before it."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    where = ": ".join(part for part in (place, ".".join(path)) if part)
    reason = str(first["msg"]).removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Refused(422, f"{reason[:1].lower()}{reason[1:]}{more}", where=where or None)


class ErrorPages:
    """Catches what nothing else caught: logged with its traceback, answered without."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; an error after the answer began can only end the connection."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            _LOG.exception("%s %s failed", scope.get("method"), scope.get("path"))
            if begun or scope["type"] != "http":
                raise
            refused = Refused(500, "the studio made a mistake", now=_AGAIN)
            await as_response(Request(scope), refused)(scope, receive, send)
