"""The page on which one plays tic-tac-toe against the checkpoints of a run and sees what each would do.

One HTML file that needs nothing else: it carries every checkpoint's probabilities in every open position.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from assent.evals.report import resource, source_hash, visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A checkpoint: its iteration, and for each position the probabilities of the nine squares."""

    iteration: int
    rows: Sequence[Sequence[float]]

    @property
    def packed(self) -> str:
        """All probabilities in steps of 1/255, a byte each."""
        return base64.b64encode(bytes(min(round(255 * one), 255) for row in self.rows for one in row)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Shares of games of one contestant on one side against one opponent."""

    iteration: int
    opponent: str
    side: str
    won: float
    drawn: float
    lost: float
    games: int


def render_game(
    boards: Sequence[str], contestants: Sequence[Contestant], results: Sequence[Result], *, report: str, command: str
) -> str:
    """The page as text; the same input gives the same bytes. `report` is the address of the run's report."""
    style, script = resource("game.css"), resource("game.js")
    data = json.dumps(
        {"boards": "".join(boards), "policies": [{"iteration": c.iteration, "packed": c.packed} for c in contestants]}
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    return environment.from_string(resource("game.html")).render(
        contestants=contestants,
        results=results,
        report=report,
        command=command,
        data=Markup(data),
        style=Markup(style),
        script=Markup(script),
        policy=(
            f"default-src 'none'; style-src '{source_hash(style)}'; script-src '{source_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
    )
