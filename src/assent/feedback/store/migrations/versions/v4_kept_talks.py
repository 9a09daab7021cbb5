"""Answers of models that wait for a judgement, and red-team talks until they are rated: both outlive the server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Make the table of talks."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "talks",
        sa.Column("presentation_id", sa.Text(), primary_key=True, nullable=False),
        sa.Column("person_id", kind, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kept_at", sa.Double(), nullable=False),
    )
    op.create_index("talks_by_age", "talks", ["kept_at"])
