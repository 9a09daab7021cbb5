"""Alembic's folder: every step from an empty database to the newest schema. A step, once released, is not edited."""
