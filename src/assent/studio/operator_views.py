"""What the operator's pages and their JSON both ask for: views over the store and the run folders."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from assent.feedback.records import Project
from assent.feedback.store.store import FeedbackStore
from assent.studio.arena import Arena, arena_view
from assent.studio.figures import FigureKeeper, Pace, newest_event
from assent.studio.overview import overview, project_row
from assent.studio.run_view import run_view
from assent.studio.runs import RunFolders
from assent.studio.security import Actor
from assent.studio.settings import StudioSettings

_NAMES_LAST_S = 5.0


class OperatorViews:
    """Views with what they keep between requests; safe in threads."""

    def __init__(
        self, store: FeedbackStore, settings: StudioSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.store, self.settings, self._clock = store, settings, clock
        self.runs = None if settings.runs is None else RunFolders(settings.runs)
        self._figures, self._pace, self._arena = FigureKeeper(store), Pace(store), Arena(store)
        self._names: tuple[float, Mapping[int, str]] = (-1.0, {})

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def projects(self, actor: Actor) -> list[Project]:
        """Those the actor may look at, the newest first."""
        person_id = None if actor.is_admin else actor.person.id
        mine = self.store.projects(person_id=person_id)
        shown = [one for one in mine if actor.is_admin or not one.archived]
        return sorted(shown, key=lambda one: one.created_at, reverse=True)

    def project_rows(self, projects: list[Project]) -> list[dict[str, Any]]:
        """The list of projects."""
        members = {project.id: len(self.store.members(project.id)) for project in projects}
        return [
            project_row(one, self.store.progress(one.id), members=members[one.id], now=self.now()) for one in projects
        ]

    def overview(self, project: Project) -> dict[str, Any]:
        """One project."""
        insight, fresh = self._figures.insight(project, newest_event(self.store, project.id))
        progress, hours = self.store.progress(project.id), self._pace.hours(project.id, self.now())
        return overview(project, progress, insight, fresh=fresh, hours=hours, names=self.names(), now=self.now())

    def arena(self, projects: list[Project]) -> dict[str, Any]:
        """Standings over the answers of all `projects`."""
        state = tuple(newest_event(self.store, project.id) for project in sorted(projects, key=lambda one: one.id))
        return arena_view(self._arena.table([project.id for project in projects], state))

    def run_list(self) -> list[dict[str, Any]]:
        """Every run of the watched folder."""
        return [] if self.runs is None else [run_view(run, self.now()) for run in self.runs.runs()]

    def names(self) -> Mapping[int, str]:
        """Everybody's name by id, at most a few seconds old."""
        known_at, names = self._names
        if not 0 <= time.monotonic() - known_at < _NAMES_LAST_S:
            names = {person.id: person.name for person in self.store.people()}
            self._names = (time.monotonic(), names)
        return names
