"""The first schema: projects, items, leases, events, people, talks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def _integers(*names: str, primary: bool = False, nullable: bool = False) -> list[sa.Column[int]]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return [sa.Column(name, kind, primary_key=primary, nullable=nullable, autoincrement=False) for name in names]


def _texts(*names: str, primary: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), primary_key=primary, nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Double(), nullable=False) for name in names]


def upgrade() -> None:
    """Make every table and index."""
    _projects_and_people()
    _items()
    _asking()
    _answers()


def _projects_and_people() -> None:
    op.create_table(
        "projects",
        *_integers("id", primary=True),
        *_texts("name", "settings"),
        *_integers("guideline_version", "archived"),
        *_numbers("created_at"),
        *_integers("asked", "wanted", "given", "finished", "answers", "skipped", "flagged"),
    )
    op.create_index("projects_by_name", "projects", ["name"], unique=True)
    op.create_table(
        "guidelines",
        *_integers("project_id", "version", primary=True),
        *_texts("text", "author"),
        *_numbers("created_at"),
    )
    op.create_table(
        "people",
        *_integers("id", primary=True),
        *_texts("name", "folded", "role", "password_hash"),
        *_integers("active"),
        *_texts("topics_declined"),
        *_numbers("created_at"),
    )
    op.create_index("people_by_name", "people", ["folded"], unique=True)
    op.create_table("members", *_integers("project_id", "person_id", primary=True))
    op.create_table(
        "sign_ins",
        *_texts("token_sha256", primary=True),
        *_integers("person_id"),
        *_numbers("created_at", "expires_at"),
    )
    op.create_index("sign_ins_by_expiry", "sign_ins", ["expires_at"])
    op.create_table(
        "invitations",
        *_texts("token_sha256", primary=True),
        *_texts("role", "project_ids"),
        *_numbers("expires_at"),
        *_integers("used"),
    )


def _items() -> None:
    op.create_table(
        "items",
        *_integers("id", primary=True),
        *_integers("project_id"),
        *_texts("key", "topic"),
        *_numbers("priority"),
        *_integers("overlap", "own_overlap", "control", "withdrawn", "taken", "given", "open"),
        *_numbers("created_at"),
    )
    op.create_index("items_by_project", "items", ["project_id", "id"])
    _partial("items_by_key", "items", ["project_id", "key"], "key <> ''", unique=True)
    _partial("items_in_queue", "items", ["project_id", sa.text("priority DESC"), "id", "topic"], "open = 1")
    _partial("items_of_controls", "items", ["project_id", "id"], "control = 1")
    op.create_table("contents", *_integers("item_id", primary=True), *_texts("content"))


def _asking() -> None:
    op.create_table(
        "presentations",
        *_texts("id", primary=True),
        *_integers("project_id", "item_id", "person_id"),
        *_texts("shown", "criteria"),
        *_integers("guideline_version", "repeat", "place", "open"),
        *_numbers("granted_at", "expires_at"),
        sqlite_with_rowid=False,
    )
    _partial("presentations_of_person", "presentations", ["project_id", "person_id"], "open = 1")
    _partial("presentations_by_expiry", "presentations", ["expires_at"], "open = 1")
    _partial("presentations_by_grant", "presentations", ["granted_at"], "open = 1")
    op.create_table(
        "slots",
        *_integers("item_id", "person_id", primary=True),
        *_integers("project_id", "leased", "standing", "repeated", "last_seq"),
        sqlite_with_rowid=False,
    )
    op.create_index("slots_of_person", "slots", ["project_id", "person_id", "last_seq"])
    op.create_table(
        "cursors", *_integers("project_id", "person_id", primary=True), *_numbers("priority"), *_integers("item_id")
    )


def _answers() -> None:
    op.create_table(
        "events",
        *_integers("seq", primary=True),
        *_texts("key", "kind"),
        *_integers("project_id"),
        *_integers("item_id", nullable=True),
        *_integers("person_id"),
        *_texts("payload", "shown"),
        *_integers("repeat", "time_taken_ms", "guideline_version"),
        *_numbers("created_at"),
        *_integers("undone_seq", nullable=True),
        *_texts("sha256"),
    )
    op.create_index("events_by_key", "events", ["person_id", "key"], unique=True)
    op.create_index("events_of_project", "events", ["project_id", "seq"])
    op.create_index("events_of_person", "events", ["person_id", "project_id", "seq"])
    op.create_table(
        "standing",
        *_integers("seq", primary=True),
        *_integers("project_id", "item_id", "person_id"),
        *_texts("kind", "presentation_id"),
        *_integers("repeat", "time_taken_ms"),
    )
    op.create_index("standing_by_item", "standing", ["project_id", "item_id", "seq"])
    op.create_index("standing_by_person", "standing", ["project_id", "person_id", "seq", "time_taken_ms"])
    op.create_table("chain", *_integers("id", primary=True), *_integers("seq"), *_texts("sha256"))
    op.execute("INSERT INTO chain (id, seq, sha256) VALUES (1, 0, '')")
    op.create_table(
        "tallies",
        *_integers("project_id", "person_id", primary=True),
        *_integers("answers", "skipped", "flagged", "total_ms"),
        *_numbers("first_at", "last_at"),
    )
    op.create_table(
        "talks",
        *_texts("presentation_id", primary=True),
        *_integers("person_id"),
        *_texts("state"),
        *_numbers("kept_at"),
    )
    op.create_index("talks_by_age", "talks", ["kept_at"])


def _partial(name: str, table: str, columns: list[str | sa.TextClause], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
