"""What holds for every request and every answer, whatever the route: host name, sizes, and the headers of safety."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assent.studio.error_page import as_response
from assent.studio.settings import StudioSettings
from assent.web.limits import BodyMeter, content_length, headers_of
from assent.web.refused import Refused

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'; report-uri /api/csp-report"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_TLS_ONLY = {"strict-transport-security": "max-age=31536000"}
_LONGEST_QUERY, _LONGEST_PATH = 2_000, 1_000
_NO_STORE = (b"cache-control", b"no-store")


class Shield:
    """The outermost layer: refuses unknown hosts and oversized requests, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, settings: StudioSettings) -> None:
        self.app, self._hosts, self._limit = app, settings.allowed_hosts, settings.body_limit_bytes
        chosen = HEADERS | _TLS_ONLY if settings.tls else HEADERS
        self._headers = [(name.encode(), value.encode()) for name, value in chosen.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve HTTP; there are no web sockets."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *self._headers]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                message["headers"] = headers
            await send(message)

        headers = headers_of(scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await as_response(Request(scope), refused)(scope, receive, send_safely)
            return
        meter = BodyMeter(scope, receive, self._limit, content_length(headers))
        await self.app(scope, meter.receive, send_safely)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> Refused | None:
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name.lower() not in self._hosts:
            now = "Open the site by its own name, or add this one to the setting hosts."
            return Refused(400, "the site is not known by this name", where="Host", now=now)
        if len(scope.get("query_string", b"")) > _LONGEST_QUERY or len(scope["path"]) > _LONGEST_PATH:
            return Refused(414, "the address is too long")
        return None
