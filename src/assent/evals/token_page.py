"""A page of tokens: who wrote each token and what is learned. One HTML file without scripts or external files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from markupsafe import Markup

from assent.evals.report import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToken:
    """One token: its id, its text, who wrote it (a role, or "template"), and whether it is learned."""

    id: int
    text: str
    writer: str
    learned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownExample:
    """A sequence as a model reads it."""

    title: str
    tokens: tuple[ShownToken, ...]

    @property
    def learned(self) -> int:
        """How many of its tokens are learned."""
        return sum(token.learned for token in self.tokens)


WRITERS = ("template", "system", "user", "tool", "assistant")


def render_tokens(examples: Sequence[ShownExample], *, model: str, notes: Sequence[str]) -> str:
    """The page as text; the same examples give the same bytes."""
    style = resources.files("assent.evals").joinpath("tokens.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = resources.files("assent.evals").joinpath("tokens.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown_text
    return environment.from_string(page).render(
        examples=examples,
        model=model,
        notes=notes,
        writers=WRITERS,
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )


def shown_text(text: str) -> str:
    """A token's text with visible line ends, tabs and parts of characters; a line end also breaks the line here."""
    if text.startswith("bytes:"):
        return "".join(f"\u27e8{part}\u27e9" for part in text.removeprefix("bytes:\\x").split("\\x"))
    return visible(text).replace("\t", "\u21e5").replace("\n", "\u21b5\n")
