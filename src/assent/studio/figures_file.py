"""A project's last insight in a small file beside the store, so that a studio that starts shows figures at once.

It names the event up to which it was counted and that event's hash, and is used only where the store has just this
event. It holds numbers and people's numbers, no texts, and may be deleted at any time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from assent.durable import write_atomic
from assent.errors import RunError
from assent.feedback.quality.project_agreement import ProjectAgreement
from assent.feedback.quality.statistics import Figures
from assent.feedback.store.store import FeedbackStore

_FORM = 3  # raised when the figures change
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """A project's figures, how far its annotators agree, and what is unusual about whom."""

    figures: Figures
    agreement: ProjectAgreement
    habits: Mapping[int, str]  # by person: a liking for the first place, great haste


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """An insight and what it was counted from: events up to `seq`, at this cost of an hour."""

    seq: int
    sha256: str
    cost_per_hour: float
    insight: Insight


def save_counted(counted: Counted, path: Path) -> None:
    """Write it; where that cannot be, the log says so and the next start counts anew."""
    insight = counted.insight
    told = {
        "form": _FORM, "seq": counted.seq, "sha256": counted.sha256, "cost_per_hour": counted.cost_per_hour,
        "figures": asdict(insight.figures), "agreement": asdict(insight.agreement), "habits": dict(insight.habits),
    }  # fmt: skip
    try:
        write_atomic(path, json.dumps(told))
    except RunError as error:
        _log.warning("figures could not be kept for the next start: %s", error)


def load_counted(store: FeedbackStore, project_id: int, path: Path) -> Counted | None:
    """What the file holds if it fits the store, else None."""
    try:
        told = json.loads(path.read_text())
        if told["form"] != _FORM:
            return None
        insight = Insight(
            figures=Figures.from_json(told["figures"]),
            agreement=ProjectAgreement.from_json(told["agreement"]),
            habits={int(person): str(words) for person, words in told["habits"].items()},
        )  # fmt: skip
        counted = Counted(
            seq=int(told["seq"]), sha256=str(told["sha256"]), cost_per_hour=float(told["cost_per_hour"]),
            insight=insight,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    there = store.events(project_id, after=counted.seq - 1, limit=1)
    fits = bool(there) and (there[0].seq, there[0].sha256) == (counted.seq, counted.sha256)
    return counted if fits else None
