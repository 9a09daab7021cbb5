"""The tables of the newest schema, as SQLAlchemy sees them. Migrations make them; nothing here does.

`items` is the hot half of an item (queue and counters), `contents` the cold half. `slots` says who occupies an item:
by a live lease, by standing answers, or both. `standing` lists the answers that were not undone; `events` is only ever
added to. Flags are integers and JSON is text, so that both databases give back the same Python values.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


def _integers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False) for name in names]


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Double(), nullable=False) for name in names]


projects = sa.Table(
    "projects",
    metadata,
    *_integers("id"),
    *_texts("name", "settings"),
    *_integers("guideline_version", "archived"),
    *_numbers("created_at"),
    *_integers("asked"),  # counters: not withdrawn, not control
    *_integers("wanted"),  # labels wanted in all
    *_integers("given"),  # people who have answered, over all items
    *_integers("finished"),  # items with as many answers as wanted
    *_integers("answers", "skipped", "flagged"),  # standing answers, with repeats and control items
)

items = sa.Table(
    "items",
    metadata,
    *_integers("id", "project_id"),
    *_texts("key", "topic"),
    *_numbers("priority"),
    *_integers("overlap", "own_overlap", "control", "withdrawn"),  # own_overlap 0: follows the project's
    *_integers("taken"),  # occupied slots
    *_integers("given"),  # slots with a standing answer
    *_integers("open"),  # 1: may be given to one more person
    *_numbers("created_at"),
)

contents = sa.Table("contents", metadata, *_integers("item_id"), *_texts("content"))

slots = sa.Table(
    "slots",
    metadata,
    *_integers("item_id", "person_id", "project_id"),
    *_integers("leased"),  # 1: by a live presentation
    *_integers("standing"),  # answers that stand, without repeats
    *_integers("repeated"),  # 1: a silent repeat was shown
    *_integers("last_seq"),  # the newest answer; 0: none
)

presentations = sa.Table(
    "presentations",
    metadata,
    *_texts("id"),
    *_integers("project_id", "item_id", "person_id"),
    *_texts("shown", "criteria"),  # shown: the order, as JSON
    *_integers("guideline_version", "repeat", "place", "open"),  # place: among the person's open ones, lowest first
    *_numbers("granted_at", "expires_at"),
)

events = sa.Table(
    "events",
    metadata,
    *_integers("seq"),
    *_texts("key", "kind"),
    *_integers("project_id"),
    sa.Column("item_id", sa.BigInteger()),
    *_integers("person_id"),
    *_texts("payload", "shown"),
    *_integers("repeat", "time_taken_ms", "guideline_version"),
    *_numbers("created_at"),
    sa.Column("undone_seq", sa.BigInteger()),
    *_texts("sha256"),
)

standing = sa.Table(
    "standing",
    metadata,
    *_integers("seq", "project_id", "item_id", "person_id"),
    *_texts("kind", "presentation_id"),
    *_integers("repeat", "time_taken_ms"),
)

chain = sa.Table("chain", metadata, *_integers("id", "seq"), *_texts("sha256"))

tallies = sa.Table(
    "tallies",
    metadata,
    *_integers("project_id", "person_id", "answers", "skipped", "flagged", "total_ms"),
    *_numbers("first_at", "last_at"),
)

cursors = sa.Table(
    "cursors", metadata, *_integers("project_id", "person_id"), *_numbers("priority"), *_integers("item_id")
)

talks = sa.Table(
    "talks", metadata, *_texts("presentation_id"), *_integers("person_id"), *_texts("state"), *_numbers("kept_at")
)

guidelines = sa.Table(
    "guidelines", metadata, *_integers("project_id", "version"), *_texts("text", "author"), *_numbers("created_at")
)

people = sa.Table(
    "people",
    metadata,
    *_integers("id"),
    *_texts("name", "folded", "role", "password_hash"),  # an empty hash: cannot sign in
    *_integers("active"),
    *_texts("topics_declined"),
    *_numbers("created_at"),
)

members = sa.Table("members", metadata, *_integers("project_id", "person_id"))

sign_ins = sa.Table(
    "sign_ins", metadata, *_texts("token_sha256"), *_integers("person_id"), *_numbers("created_at", "expires_at")
)

invitations = sa.Table(
    "invitations", metadata, *_texts("token_sha256", "role", "project_ids"), *_numbers("expires_at"), *_integers("used")
)
