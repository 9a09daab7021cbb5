"""The store and the project that a command of `assent feedback` names."""

from __future__ import annotations

from assent.errors import ConfigError
from assent.feedback.records import Project
from assent.feedback.store.store import FeedbackStore
from assent.recipes.run.request import Request


def store_url(request: Request) -> str:
    """What --store says; ConfigError where it says nothing."""
    url = request.text("store")
    if not url:
        raise ConfigError("no store was named", now="Name one with --store, e.g. --store feedback.db.")
    return url


def open_store(request: Request, *, writing: bool) -> FeedbackStore:
    """The store of --store."""
    return FeedbackStore.open(store_url(request), read_only=not writing)


def chosen_project(store: FeedbackStore, request: Request) -> Project:
    """The project named by --project, or the only one."""
    name, projects = request.text("project"), store.projects()
    if name is None and len(projects) == 1:
        return projects[0]
    found = store.project_named(name) if name is not None else None
    if found is None:
        listed = ", ".join(f'"{project.name}"' for project in projects[:12]) or "none"
        what = f'there is no project "{name}"' if name is not None else "which project?"
        raise ConfigError(what, where="--project", now=f"There are: {listed}.")
    return found
