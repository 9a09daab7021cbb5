"""A refusal as an exception: its status, what is wrong, where, and what to do now."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException


class Refused(HTTPException):
    """A request that is answered with an error: `what` is wrong, `where` (a field, mostly), what to do `now`."""

    def __init__(
        self,
        status: int,
        what: str,
        *,
        where: str | None = None,
        now: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, what, headers)
        self.what, self.where, self.now = what, where, now
