"""The report: one HTML file that needs nothing else, and the same evidence as JSON.

Everything that comes from models, data or settings is text: every value a template prints is escaped, and characters
that hide or reorder text are spelt out. The page's policy lets nothing load and only this module's own script run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from assent.durable import write_atomic, writing
from assent.evals import curves, panels, words
from assent.evals.axes import ends, gain_text, is_clear, number, per_cent, span
from assent.evals.evidence import Evidence, to_json
from assent.evals.glossary import glossary, meaning
from assent.evals.headline import duration, headline
from assent.evals.run_table import made_of, run_rows
from assent.evals.suites import panels as suite_panels

SHOWN_SAMPLES = 8  # further samples are folded away
_HIDING = frozenset({"Cf", "Cc", "Cs", "Co", "Zl", "Zp"})  # format, control, surrogate, private, line, paragraph
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def write_report(evidence: Evidence, folder: Path) -> Path:
    """Write report.html and report.json into `folder`, each whole or not at all; returns the path of the page.

    Raises DataError where a number that must exist is not finite (nothing is written) and RunError where the file
    system refuses.
    """
    data, page = to_json(evidence), render(evidence)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "report.json", data)
    write_atomic(folder / "report.html", page)
    return folder / "report.html"


def render(evidence: Evidence) -> str:
    """The page as text; the same evidence gives the same bytes."""
    style, script = resource("page.css"), resource("page.js")
    policy = (
        f"default-src 'none'; style-src '{source_hash(style)}'; script-src '{source_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    shared = {"words": words, "panels": panels, "suite_panels": suite_panels, "curves": curves}
    template = _environment().get_template("page.html", globals=shared)
    return template.render(
        page=evidence,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        headline=headline(evidence),
        runs=run_rows(evidence.parts),
        made_of=[] if evidence.parts else made_of(evidence),
        terms=glossary(evidence),
        shown_samples=SHOWN_SAMPLES,
    )


def visible(text: str) -> str:
    """`text` with every character that hides or reorders its neighbours spelt out, as in ⟨U+202E⟩."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\u27e8U+{ord(char):04X}\u27e9" if _hides(char) else char for char in text)


def _hides(char: str) -> bool:
    return (unicodedata.category(char) in _HIDING and char not in "\n\t") or char in _BLANK_LETTERS


def _finalize(value: Any) -> Any:
    """What every `{{ }}` passes through before it is escaped, so that no template can forget."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = (number, per_cent, span, duration, ends, gain_text, is_clear, meaning)
    environment.filters.update({one.__name__: one for one in named})
    environment.filters.update(
        slug=lambda name: re.sub(r"[^a-z0-9]+", "-", name.lower()),
        pretty=lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
    )
    return environment


def resource(name: str) -> str:
    """A template, a style sheet or a script of the pages."""
    return resources.files("assent.evals").joinpath(name).read_text(encoding="utf-8")


def source_hash(text: str) -> str:
    """What a page's policy calls a style sheet or a script that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
