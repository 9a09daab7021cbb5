"""A page of tokens: who wrote each token and what is learned. One HTML file without scripts or external files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from assent.evals.report import resource, source_hash, visible


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
    style = resource("tokens.css")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown_text
    return environment.from_string(resource("tokens.html")).render(
        examples=examples,
        model=model,
        notes=notes,
        writers=WRITERS,
        style=Markup(style),
        policy=f"default-src 'none'; style-src '{source_hash(style)}'; base-uri 'none'; form-action 'none'",
    )


def shown_text(text: str) -> str:
    """A token's text with visible line ends, tabs and parts of characters; a line end also breaks the line here."""
    if text.startswith("bytes:"):
        return "".join(f"\u27e8{part}\u27e9" for part in text.removeprefix("bytes:\\x").split("\\x"))
    return visible(text).replace("\t", "\u21e5").replace("\n", "\u21b5\n")
