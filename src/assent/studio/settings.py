"""How the studio is served."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from assent.config import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WILDCARDS = ("", "0.0.0.0", "::")
_ELSEWHERE = ("192.0.2.1", 9)  # an address that is kept for examples
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def own_names() -> tuple[str, ...]:
    """Under what other machines reach this one: its address in the network, where it has one, and its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)  # sends nothing; it chooses the interface
        except OSError:
            return (socket.gethostname(),)
        return (str(probe.getsockname()[0]), socket.gethostname())


class EndpointSettings(Settings):
    """A model behind an OpenAI-compatible address; `key_env` names the environment variable that holds its key."""

    url: str
    model: str
    key_env: str = ""

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("an endpoint's url begins with http:// or https://")
        return url.rstrip("/")


class StudioSettings(Settings):
    """Settings of `assent studio`; limits have defaults that a team of a few dozen annotators does not notice."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8642
    hosts: tuple[str, ...] = ()  # further names under which the site is reached
    tls: bool = False  # people reach the site by https, through a proxy
    proxies: tuple[str, ...] = ()  # addresses of proxies whose X-Forwarded-For is believed
    runs: Path | None = None
    endpoints: dict[str, EndpointSettings] = Field(default={})
    sign_in_lifetime_s: Annotated[float, Field(gt=0)] = 7 * 86400.0
    body_limit_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    upload_limit_bytes: Annotated[int, Field(ge=1024)] = 64 << 20
    head_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    connections_per_address: Annotated[int, Field(ge=1)] = 1024  # that wait for a request or its rest
    requests_per_minute: Annotated[int, Field(ge=1)] = 1200
    sign_in_attempts: Annotated[int, Field(ge=1)] = 5
    sign_in_window_s: Annotated[float, Field(gt=0)] = 900.0

    @field_validator("endpoints")
    @classmethod
    def _names_are_plain(cls, endpoints: dict[str, EndpointSettings]) -> dict[str, EndpointSettings]:
        for name in endpoints:
            if not _NAME.fullmatch(name):
                raise ValueError(f'the endpoint name "{name}" may hold letters, digits, dot, dash and underscore only')
        return endpoints

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names that a Host header may carry, lower case, without port."""
        own = own_names() if self.listens_everywhere else (self.host if ":" not in self.host else f"[{self.host}]",)
        return frozenset(name.lower() for name in (*_LOOPBACK, *own, *self.hosts))

    @property
    def listens_everywhere(self) -> bool:
        """Whether all interfaces are listened on, so that the setting is no address to open."""
        return self.host in _WILDCARDS

    @property
    def cookie(self) -> str:
        """The name of the sign-in cookie; browsers keep the prefix's promises (Secure, Path=/, no Domain)."""
        return "__Host-assent" if self.tls else "assent"
