"""The pages' templates. Every value that enters one is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from starlette.responses import HTMLResponse

FOLDER = Path(__file__).parent / "pages"
_LOADER = jinja2.FileSystemLoader(FOLDER)
_TEMPLATES = jinja2.Environment(loader=_LOADER, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def page(name: str, *, actor: object = None, status: int = 200, **context: Any) -> HTMLResponse:
    """The page of the template `name`; `actor` is who is signed in, None for nobody."""
    return HTMLResponse(_TEMPLATES.get_template(name).render(actor=actor, **context), status_code=status)
