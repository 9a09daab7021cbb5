"""Where each person's search of the queue may begin, so that the next item stays fast after many answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the table of cursors."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "cursors",
        sa.Column("project_id", kind, primary_key=True, autoincrement=False),
        sa.Column("person_id", kind, primary_key=True, autoincrement=False),
        sa.Column("priority", sa.Double(), nullable=False),
        sa.Column("item_id", kind, nullable=False),
    )
