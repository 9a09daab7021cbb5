"""A training run in words."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import quote

from assent.studio import wording
from assent.studio.overview import done
from assent.studio.runs import RunSample, RunSummary

_TONES = {"running": "good", "failed": "bad", "interrupted": "warn", "killed": "warn"}
_WORDS = {
    "killed": "The run says that it is running, but no process holds it: it was killed. --resume continues it.",
    "interrupted": "The run was stopped by a signal and its state is saved. --resume continues it.",
    "failed": "The run ended with an error. Its log says which.",
}


def run_view(run: RunSummary, now: float) -> dict[str, Any]:
    """A run as lists and its own page show it."""
    whole = wording.counted(run.total or run.step, run.unit)
    steps = f"{wording.count(run.step)} of {whole}" if run.total else whole
    updated = run.updated
    with suppress(ValueError, OverflowError, OSError):
        updated = wording.ago(datetime.fromisoformat(updated).timestamp(), now)
    return {
        "name": run.name,
        "address": f"/runs/{quote(run.name)}",
        "kind": run.kind,
        "state": run.state,
        "tone": _TONES.get(run.state, ""),
        "done": done(run.step, run.total),
        "steps": steps if run.step or run.total else wording.NOTHING,
        "updated": updated,
        "words": _WORDS.get(run.state, ""),
    }


def sample_view(sample: RunSample) -> dict[str, Any]:
    """One completion for the page's script."""
    return asdict(sample)
