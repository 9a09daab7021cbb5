"""The database itself refuses to change or to drop an event."""

from __future__ import annotations

from alembic import op

revision = "2"
down_revision = "1"

_SQLITE = """
CREATE TRIGGER events_are_not_{verb}d BEFORE {verb} ON events
BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END
"""
_POSTGRESQL_FUNCTION = """
CREATE FUNCTION refuse_change_of_events() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'events are only ever added'; END $$
"""
_POSTGRESQL = """
CREATE TRIGGER events_are_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON events
EXECUTE FUNCTION refuse_change_of_events()
"""


def upgrade() -> None:
    """Make the triggers."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(_SQLITE.format(verb=verb))
        return
    op.execute(_POSTGRESQL_FUNCTION)
    op.execute(_POSTGRESQL)
