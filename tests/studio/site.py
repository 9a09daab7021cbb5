"""A studio on a fresh store with one person of each role, and browsers for them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from assent.feedback.records import (
    Candidate,
    NewItem,
    Person,
    PersonRole,
    Presentation,
    Project,
    ProjectSettings,
    TaskMode,
)
from assent.feedback.store.store import FeedbackStore
from assent.studio.app import create_app
from assent.studio.settings import EndpointSettings, StudioSettings
from assent.types import Conversation

ORIGIN = "http://localhost"
PASSWORD = "a long password"
SETTINGS = StudioSettings(endpoints={"tiny": EndpointSettings(url="http://127.0.0.1:9", model="tiny")})
_keys = itertools.count(1)


def key() -> str:
    """A fresh idempotency key."""
    return f"test-key-{next(_keys):08d}"


class Browser:
    """Somebody's browser: their cookie, their token, and the headers of a page of the site."""

    def __init__(self, app: FastAPI, cookie: str = "", csrf: str = "", *, origin: str = ORIGIN) -> None:
        self.client = TestClient(app, base_url=origin, raise_server_exceptions=False, follow_redirects=False)
        self.csrf, self.origin, self.cookie = csrf, origin, cookie

    def headers(self) -> dict[str, str]:
        """What a page of ours sends along."""
        sent = {"origin": self.origin}
        if self.csrf:
            sent["x-csrf-token"] = self.csrf
        if self.cookie:
            sent["cookie"] = self.cookie
        return sent

    def ask(self, method: str, path: str, *, without: str = "", headers: Mapping[str, str] | None = None, **rest: Any):  # type: ignore[no-untyped-def]
        """A request; `without` leaves out one of the usual headers."""
        sent = {name: value for name, value in self.headers().items() if name != without} | dict(headers or {})
        return self.client.request(method, path, headers=sent, **rest)

    def get(self, path: str, **rest: Any):  # type: ignore[no-untyped-def]
        """A GET."""
        return self.ask("GET", path, **rest)

    def post(self, path: str, json: object = None, **rest: Any):  # type: ignore[no-untyped-def]
        """A POST of JSON."""
        return self.ask("POST", path, json=json, **rest)

    def put(self, path: str, json: object = None, **rest: Any):  # type: ignore[no-untyped-def]
        """A PUT of JSON."""
        return self.ask("PUT", path, json=json, **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The application, what lies behind it, and its people: annotator works in `project`, nobody in `foreign`."""

    app: FastAPI
    store: FeedbackStore
    settings: StudioSettings
    admin: Person
    annotator: Person
    viewer: Person
    stranger: Person  # an annotator of the other project
    project: Project
    foreign: Project

    def browser(self, person: Person | None = None) -> Browser:
        """A browser in which `person` is signed in."""
        if person is None:
            return Browser(self.app)
        sign_in = self.store.sign_in(person.id, lifetime_s=3600)
        return Browser(self.app, f"{self.settings.cookie}={sign_in.token}", sign_in.csrf)

    def lease(self, person: Person, project: Project | None = None) -> Presentation:
        """The next item of `person`."""
        return self.store.lease((project or self.project).id, person.id)[0]

    def answer(self, presentation: Presentation, **changes: Any) -> dict[str, Any]:
        """A body that answers a pair."""
        body = {"key": key(), "presentation_id": presentation.id, "kind": "pairwise", "payload": {"strength": -2}}
        return body | {"time_taken_ms": 900} | changes


def turn_away(site: Site, project_id: int, state: str) -> None:
    """Make the annotator somebody whom the project does not ask, without the application's being told."""
    if state == "removed":
        site.store.set_members(project_id, [site.viewer.id])
    elif state == "archived":
        site.store.archive_project(project_id)
    elif state == "closed":
        site.store.update_person(site.annotator.id, active=False)
    else:
        site.store.update_person(site.annotator.id, role=PersonRole(state))


def items(count: int, *, start: int = 0) -> list[NewItem]:
    """Pairs to be compared."""
    return [
        NewItem(
            prompt=Conversation.of_user(f"question {number}"),
            candidates=(Candidate(text=f"a{number}", model="secret-a"), Candidate(text=f"b{number}", model="secret-b")),
        )
        for number in range(start, start + count)
    ]


def fill(store: FeedbackStore) -> None:
    """Two projects with thirty pairs each, one person per role, a stranger."""
    pairs = ProjectSettings(mode=TaskMode.PAIRWISE, overlap=2)
    project, foreign = store.create_project("pairs", pairs), store.create_project("foreign", pairs)
    for one, text in ((project, "Be fair."), (foreign, "Be quick.")):
        store.add_items(one.id, items(30))
        store.add_guideline(one.id, text, "ada")
    people = {role: store.create_person(f"the {role}", role, None) for role in PersonRole}
    stranger = store.create_person("a stranger", PersonRole.ANNOTATOR, None)
    store.set_members(project.id, [people[PersonRole.ANNOTATOR].id, people[PersonRole.VIEWER].id])
    store.set_members(foreign.id, [stranger.id])


def open_site(store: FeedbackStore, settings: StudioSettings = SETTINGS) -> Site:
    """The site over a filled store."""
    project, foreign = store.projects()
    people = {person.name: person for person in store.people()}
    return Site(
        app=create_app(store, settings), store=store, settings=settings, admin=people["the admin"],
        annotator=people["the annotator"], viewer=people["the viewer"], stranger=people["a stranger"],
        project=project, foreign=foreign,
    )  # fmt: skip
