"""The first schema: projects, items, leases, events, people, talks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def _integer(name: str, *, primary: bool = False, nullable: bool = False) -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, primary_key=primary, nullable=nullable, autoincrement=False)


def _text(name: str, *, primary: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=primary, nullable=False)


def _number(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=False)


def upgrade() -> None:
    """Make every table and index."""
    _projects_and_people()
    _items()
    _asking()
    _answers()


def _projects_and_people() -> None:
    counters = ("asked", "wanted", "given", "finished", "answers", "skipped", "flagged")
    op.create_table(
        "projects",
        _integer("id", primary=True),
        _text("name"),
        _text("settings"),
        _integer("guideline_version"),
        _integer("archived"),
        _number("created_at"),
        *(_integer(name) for name in counters),
    )
    op.create_index("projects_by_name", "projects", ["name"], unique=True)
    op.create_table(
        "guidelines",
        _integer("project_id", primary=True),
        _integer("version", primary=True),
        _text("text"),
        _text("author"),
        _number("created_at"),
    )
    op.create_table(
        "people",
        _integer("id", primary=True),
        _text("name"),
        _text("folded"),
        _text("role"),
        _text("password_hash"),
        _integer("active"),
        _text("topics_declined"),
        _number("created_at"),
    )
    op.create_index("people_by_name", "people", ["folded"], unique=True)
    op.create_table("members", _integer("project_id", primary=True), _integer("person_id", primary=True))
    op.create_table(
        "sign_ins",
        _text("token_sha256", primary=True),
        _integer("person_id"),
        _number("created_at"),
        _number("expires_at"),
    )
    op.create_index("sign_ins_by_expiry", "sign_ins", ["expires_at"])
    op.create_table(
        "invitations",
        _text("token_sha256", primary=True),
        _text("role"),
        _text("project_ids"),
        _number("expires_at"),
        _integer("used"),
    )


def _items() -> None:
    op.create_table(
        "items",
        _integer("id", primary=True),
        _integer("project_id"),
        _text("key"),
        _text("topic"),
        _number("priority"),
        *(_integer(name) for name in ("overlap", "own_overlap", "control", "withdrawn", "taken", "given", "open")),
        _number("created_at"),
    )
    op.create_index("items_by_project", "items", ["project_id", "id"])
    _partial("items_by_key", "items", ["project_id", "key"], "key <> ''", unique=True)
    _partial("items_in_queue", "items", ["project_id", sa.text("priority DESC"), "id", "topic"], "open = 1")
    _partial("items_of_controls", "items", ["project_id", "id"], "control = 1")
    op.create_table("contents", _integer("item_id", primary=True), _text("content"))


def _asking() -> None:
    op.create_table(
        "presentations",
        _text("id", primary=True),
        *(_integer(name) for name in ("project_id", "item_id", "person_id")),
        _text("shown"),
        _text("criteria"),
        *(_integer(name) for name in ("guideline_version", "repeat", "place", "open")),
        _number("granted_at"),
        _number("expires_at"),
        sqlite_with_rowid=False,
    )
    _partial("presentations_of_person", "presentations", ["project_id", "person_id"], "open = 1")
    _partial("presentations_by_expiry", "presentations", ["expires_at"], "open = 1")
    _partial("presentations_by_grant", "presentations", ["granted_at"], "open = 1")
    op.create_table(
        "slots",
        _integer("item_id", primary=True),
        _integer("person_id", primary=True),
        *(_integer(name) for name in ("project_id", "leased", "standing", "repeated", "last_seq")),
        sqlite_with_rowid=False,
    )
    op.create_index("slots_of_person", "slots", ["project_id", "person_id", "last_seq"])
    op.create_table(
        "cursors",
        _integer("project_id", primary=True),
        _integer("person_id", primary=True),
        _number("priority"),
        _integer("item_id"),
    )


def _answers() -> None:
    op.create_table(
        "events",
        _integer("seq", primary=True),
        _text("key"),
        _text("kind"),
        _integer("project_id"),
        _integer("item_id", nullable=True),
        _integer("person_id"),
        _text("payload"),
        _text("shown"),
        *(_integer(name) for name in ("repeat", "time_taken_ms", "guideline_version")),
        _number("created_at"),
        _integer("undone_seq", nullable=True),
        _text("sha256"),
    )
    op.create_index("events_by_key", "events", ["person_id", "key"], unique=True)
    op.create_index("events_of_project", "events", ["project_id", "seq"])
    op.create_index("events_of_person", "events", ["person_id", "project_id", "seq"])
    op.create_table(
        "standing",
        _integer("seq", primary=True),
        *(_integer(name) for name in ("project_id", "item_id", "person_id")),
        _text("kind"),
        _text("presentation_id"),
        *(_integer(name) for name in ("repeat", "time_taken_ms")),
    )
    op.create_index("standing_by_item", "standing", ["project_id", "item_id", "seq"])
    op.create_index("standing_by_person", "standing", ["project_id", "person_id", "seq", "time_taken_ms"])
    op.create_table("chain", _integer("id", primary=True), _integer("seq"), _text("sha256"))
    op.execute("INSERT INTO chain (id, seq, sha256) VALUES (1, 0, '')")
    op.create_table(
        "tallies",
        _integer("project_id", primary=True),
        _integer("person_id", primary=True),
        *(_integer(name) for name in ("answers", "skipped", "flagged", "total_ms")),
        _number("first_at"),
        _number("last_at"),
    )
    op.create_table(
        "talks", _text("presentation_id", primary=True), _integer("person_id"), _text("state"), _number("kept_at")
    )
    op.create_index("talks_by_age", "talks", ["kept_at"])


def _partial(name: str, table: str, columns: list[str | sa.TextClause], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
