"""Pairs whose soft labels weigh people by their reliability: what several say becomes one posterior.

The labels are those of `consensus.soft_labels` under the one-coin model of `reliability`: who is right by chance alone
counts for nothing, who is mostly wrong is turned round, and `cap` limits one person's share of all weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assent.errors import StoreError
from assent.feedback.annotation_source import AnnotationSource, all_answered
from assent.feedback.exchange.export_files import write_rows
from assent.feedback.exchange.export_rows import ROW_FORMATS, pair_row
from assent.feedback.quality.consensus import PersonReliability, comparisons_of, reliabilities, soft_labels, vote_table


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedExport:
    """How many pairs were written, and how far each person can be trusted."""

    pairs: int
    people: tuple[PersonReliability, ...]


def export_weighted(
    source: AnnotationSource, project_id: int, path: Path, *, criterion: str = "", cap: float | None = None
) -> WeightedExport:
    """Write the project's pairs with labels weighed by reliability; StoreError where nobody has compared anything.

    Control items are known answers that tell about people; they are no rows.
    """
    table = vote_table(all_answered(source, project_id), criterion=criterion)
    if not table.pairs:
        where = f"project {project_id}"
        raise StoreError("nobody has compared anything yet", where=where, now="Collect answers first.")
    people = reliabilities(table)
    label_P = soft_labels(table, weights={one.person_id: one.weight for one in people}, cap=cap)
    header = ROW_FORMATS["pairs"].header(models=False)
    count = write_rows(path, map(pair_row, comparisons_of(table, label_P)), header)
    return WeightedExport(pairs=count, people=tuple(people))
