"""What a page compares and what it draws of a training, as data: who made the evidence declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MetricsRow = Mapping[str, float | None]
ORACLE = "oracle"  # the arm of ideal answers, which the others are measured against


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the models that a page compares: its name, and what sets it apart from the others.

    `colour` is one of the style sheet: grey, teal, purple, blue, orange, ink or muted.
    """

    name: str
    colour: str = "muted"
    setting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCurves:
    """The rows of metrics of one training, each with a "step", and which of them the page draws or folds away.

    Trainings by one `method` share their charts, with a line for each. `unit` is what people count progress in: steps,
    or iterations, of which each row then has the number. The first curve is what the training is about.
    """

    method: str
    unit: str = "steps"
    curves: tuple[str, ...]
    folded: tuple[str, ...] = ()
    rows: tuple[MetricsRow, ...]

    def values(self, metric: str) -> list[float]:
        """A metric of all rows that have it."""
        return [value for row in self.rows if (value := row.get(metric)) is not None]


def judge_name(judge: str) -> str:
    """The judge as the object of a sentence."""
    return f"the {judge} judge" if judge == "gold" else f"the {judge}" if judge.startswith("reward model") else judge
