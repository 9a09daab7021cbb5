"""The tables of the newest schema, as SQLAlchemy sees them. Migrations make them; nothing here does.

`items` is the hot half of an item (queue and counters), `contents` the cold half. `slots` says who occupies an item:
by a live lease, by standing answers, or both. `standing` lists the answers that were not undone; `events` is only ever
added to. Flags are integers and JSON is text, so that both databases give back the same Python values.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=False)


projects = sa.Table(
    "projects",
    metadata,
    _integer("id"),
    _text("name"),
    _text("settings"),
    _integer("guideline_version"),
    _integer("archived"),
    _number("created_at"),
    _integer("asked"),  # counters: not withdrawn, not control
    _integer("wanted"),  # labels wanted in all
    _integer("given"),  # people who have answered, over all items
    _integer("finished"),  # items with as many answers as wanted
    _integer("answers"),  # standing answers, with repeats and control items
    _integer("skipped"),
    _integer("flagged"),
)

items = sa.Table(
    "items",
    metadata,
    _integer("id"),
    _integer("project_id"),
    _text("key"),
    _text("topic"),
    _number("priority"),
    _integer("overlap"),
    _integer("own_overlap"),  # 0: follows the project's
    _integer("control"),
    _integer("withdrawn"),
    _integer("taken"),  # occupied slots
    _integer("given"),  # slots with a standing answer
    _integer("open"),  # 1: may be given to one more person
    _number("created_at"),
)

contents = sa.Table("contents", metadata, _integer("item_id"), _text("content"))

slots = sa.Table(
    "slots",
    metadata,
    _integer("item_id"),
    _integer("person_id"),
    _integer("project_id"),
    _integer("leased"),  # 1: by a live presentation
    _integer("standing"),  # answers that stand, without repeats
    _integer("repeated"),  # 1: a silent repeat was shown
    _integer("last_seq"),  # the newest answer; 0: none
)

presentations = sa.Table(
    "presentations",
    metadata,
    _text("id"),
    _integer("project_id"),
    _integer("item_id"),
    _integer("person_id"),
    _text("shown"),  # the order, as JSON
    _text("criteria"),
    _integer("guideline_version"),
    _integer("repeat"),
    _integer("place"),  # among the open ones of a person, lowest first
    _integer("open"),
    _number("granted_at"),
    _number("expires_at"),
)

events = sa.Table(
    "events",
    metadata,
    _integer("seq"),
    _text("key"),
    _text("kind"),
    _integer("project_id"),
    sa.Column("item_id", sa.BigInteger()),
    _integer("person_id"),
    _text("payload"),
    _text("shown"),
    _integer("repeat"),
    _integer("time_taken_ms"),
    _integer("guideline_version"),
    _number("created_at"),
    sa.Column("undone_seq", sa.BigInteger()),
    _text("sha256"),
)

standing = sa.Table(
    "standing",
    metadata,
    _integer("seq"),
    _integer("project_id"),
    _integer("item_id"),
    _integer("person_id"),
    _text("kind"),
    _text("presentation_id"),
    _integer("repeat"),
    _integer("time_taken_ms"),
)

chain = sa.Table("chain", metadata, _integer("id"), _integer("seq"), _text("sha256"))

tallies = sa.Table(
    "tallies",
    metadata,
    _integer("project_id"),
    _integer("person_id"),
    _integer("answers"),
    _integer("skipped"),
    _integer("flagged"),
    _integer("total_ms"),
    _number("first_at"),
    _number("last_at"),
)

cursors = sa.Table(
    "cursors", metadata, _integer("project_id"), _integer("person_id"), _number("priority"), _integer("item_id")
)

talks = sa.Table("talks", metadata, _text("presentation_id"), _integer("person_id"), _text("state"), _number("kept_at"))

guidelines = sa.Table(
    "guidelines",
    metadata,
    _integer("project_id"),
    _integer("version"),
    _text("text"),
    _text("author"),
    _number("created_at"),
)

people = sa.Table(
    "people",
    metadata,
    _integer("id"),
    _text("name"),
    _text("folded"),
    _text("role"),
    _text("password_hash"),  # empty: cannot sign in
    _integer("active"),
    _text("topics_declined"),
    _number("created_at"),
)

members = sa.Table("members", metadata, _integer("project_id"), _integer("person_id"))

sign_ins = sa.Table(
    "sign_ins", metadata, _text("token_sha256"), _integer("person_id"), _number("created_at"), _number("expires_at")
)

invitations = sa.Table(
    "invitations",
    metadata,
    _text("token_sha256"),
    _text("role"),
    _text("project_ids"),
    _number("expires_at"),
    _integer("used"),
)
