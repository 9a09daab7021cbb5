"""What stands before an endpoint's routes: the name it is called by, the key, the kind, size and speed of the body."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from assent.serving.openai_responses import Problem
from assent.web.limits import BodyMeter, content_length, headers_of


class EndpointGuard:
    """ASGI middleware; refuses in the interface's own form."""

    def __init__(
        self, app: ASGIApp, *, api_key: str | None, hosts: frozenset[str] | None, body_limit_bytes: int
    ) -> None:
        self.app, self._hosts, self._limit = app, hosts, body_limit_bytes
        self._bearer = None if api_key is None else f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the head of a request, measure its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = self._look(scope)
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        meter = BodyMeter(scope, receive, self._limit, content_length(headers_of(scope)))
        await self.app(scope, meter.receive, send)

    def _look(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            return Problem(status=421, message="this endpoint does not go by the name in the Host header")
        if self._bearer is not None and scope["path"].startswith("/v1"):
            given = headers.get("authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, self._bearer):
                what = "the API key is missing or wrong; send it as bearer token"
                return Problem(status=401, message=what, type="authentication_error", code="invalid_api_key")
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            return Problem(status=415, message=f"the body must be {_JSON}")
        return None


_JSON = "application/json"


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()
