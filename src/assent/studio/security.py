"""Who asks, and whether they may. Every route says who may use it; a route that says nothing stops the start.

A route declares its people with `Depends(ADMIN)`, `Depends(ANNOTATOR)`, `Depends(VIEWER)`, `Depends(SIGNED_IN)` or
`Depends(ANYONE)` - as a parameter where it wants the actor, among `dependencies` where it does not. The same
dependency holds unsafe methods to the site's own origin and to the sign-in's CSRF token.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.responses import Response

from assent.feedback.records import Person, PersonRole, Project
from assent.feedback.store.store import FeedbackStore
from assent.studio.error_page import not_found
from assent.studio.settings import StudioSettings
from assent.studio.threads import in_thread
from assent.web.limits import FailedAttempts, HashGate, RequestRate, headers_of
from assent.web.refused import Refused

Key = TypeVar("Key")
Value = TypeVar("Value")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REMEMBERED_S = 5.0  # how long another process's changes to sign-ins and members may go unseen
_REMEMBERED = 10_000
_PEOPLE_PER_ADDRESS = 10  # an address may stand for a whole team


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who is signed in, and the token that proves that a request comes from a page of ours."""

    person: Person
    csrf: str
    token: str

    @property
    def is_admin(self) -> bool:
        """Whether everything is theirs."""
        return self.person.role is PersonRole.ADMIN


class Guard:
    """Knows who sends a request and what they may see; remembers both for a few seconds."""

    def __init__(
        self, store: FeedbackStore, settings: StudioSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.settings = store, settings
        self.rate = RequestRate(settings.requests_per_minute, clock=clock)
        self.address_rate = RequestRate(settings.requests_per_minute * _PEOPLE_PER_ADDRESS, clock=clock)
        self.attempts = FailedAttempts(settings.sign_in_attempts, settings.sign_in_window_s, clock=clock)
        self.hashes = HashGate()
        self.reports = 0  # violations of the content policy, as told by browsers
        self._scheme = "https" if settings.tls else "http"
        self._cookie = f"{settings.cookie}="
        self._clock = clock
        self._actors: OrderedDict[str, tuple[Actor, float]] = OrderedDict()
        self._projects: OrderedDict[tuple[int, int], tuple[Project, float]] = OrderedDict()
        self._forgotten = 0

    async def actor_of(self, request: HTTPConnection) -> Actor | None:
        """Who sent a request, None for nobody; counts it, and refuses (429) what is too much."""
        cookies = map(str.strip, headers_of(request.scope).get("cookie", "").split(";"))
        mine = next((cookie for cookie in cookies if cookie.startswith(self._cookie)), "")
        token = mine.removeprefix(self._cookie).strip('"')[:200]
        known = self._actors.get(token)
        if known is not None and known[1] > self._clock():
            self.rate.take(known[0].person.id)
            return known[0]
        self.address_rate.take(address_of(request))
        if not token:
            return None
        forgotten = self._forgotten
        actor = await in_thread(self._look_up, token)
        self._actors.pop(token, None)
        if actor is None:
            return None
        if forgotten == self._forgotten:  # else it may have changed while it was read
            _remember(self._actors, token, (actor, self._clock() + _REMEMBERED_S))
        self.rate.take(actor.person.id)
        return actor

    async def project(self, actor: Actor, project_id: int) -> Project:
        """A project that is theirs: any for an admin, else those they are a member of; 404 for all others."""
        known = self._projects.get((actor.person.id, project_id))
        if known is not None and known[1] > self._clock():
            return known[0]
        forgotten = self._forgotten
        project = await in_thread(self.project_now, actor, project_id)
        if forgotten == self._forgotten:
            _remember(self._projects, (actor.person.id, project_id), (project, self._clock() + _REMEMBERED_S))
        return project

    def project_now(self, actor: Actor, project_id: int) -> Project:
        """The same from the store, blocking: for threads."""
        if actor.is_admin:
            return self.store.project(project_id)
        mine = self.store.projects(person_id=actor.person.id)
        found = next((project for project in mine if project.id == project_id), None)
        if found is None or found.archived:
            raise not_found("there is no such project")
        return found

    def forget(self) -> None:
        """People, members or projects have changed: look everything up again."""
        self._forgotten += 1
        self._actors.clear()
        self._projects.clear()

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refused (403) unless a page of this site (or a program that says so) sent the request."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        own = f"{self._scheme}://{headers.get('host', '')}"
        if (origin is None and site is None) or (origin not in (None, own)) or (site not in (None, "same-origin")):
            now = f"Send it from a page of the studio; a program sends the header Origin: {own}."
            raise Refused(403, "the request comes from another site", where="Origin", now=now)

    def check_token(self, headers: Mapping[str, str], actor: Actor) -> None:
        """Refused (403) unless the header X-CSRF-Token is the sign-in's."""
        given = headers.get("x-csrf-token", "")
        if not hmac.compare_digest(given.encode(), actor.csrf.encode()):
            what = "the request does not carry the token of this sign-in"
            raise Refused(403, what, where="X-CSRF-Token", now="Load the page again.")

    def set_cookie(self, response: Response, token: str) -> None:
        """Keep the sign-in in the browser, out of the reach of scripts and of other sites."""
        lifetime_s = int(self.settings.sign_in_lifetime_s)
        response.set_cookie(
            self.settings.cookie, token, max_age=lifetime_s, path="/", secure=self.settings.tls,
            httponly=True, samesite="strict",
        )  # fmt: skip

    def delete_cookie(self, response: Response) -> None:
        """Take the sign-in out of the browser."""
        name, secure = self.settings.cookie, self.settings.tls
        response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="strict")

    def _look_up(self, token: str) -> Actor | None:
        sign_in = self.store.sign_in_of(token)
        if sign_in is None:
            return None
        return Actor(person=self.store.person(sign_in.person_id), csrf=sign_in.csrf, token=token)


class Access:
    """Who may use a route: anyone, or people with one of `roles`. The one dependency that every route has.

    `from_anywhere` leaves out the origin check: for reports that browsers send by themselves.
    """

    def __init__(self, *roles: PersonRole, from_anywhere: bool = False) -> None:
        self.roles, self.from_anywhere = frozenset(roles), from_anywhere

    async def __call__(self, request: Request) -> Actor | None:
        """The actor, or None where anyone may ask and nobody is signed in. Refused with 401, 403 or 429."""
        guard = guard_of(request)
        actor = await guard.actor_of(request)
        unsafe = request.method not in SAFE_METHODS
        if unsafe and not self.from_anywhere:
            guard.check_origin(headers_of(request.scope))
        if not self.roles:
            return actor
        if actor is None:
            raise Refused(401, "nobody is signed in", now="Sign in.")
        if unsafe:
            guard.check_token(headers_of(request.scope), actor)
        if actor.person.role not in self.roles:
            needed = " or ".join(sorted(self.roles))
            raise Refused(403, f"this is for the role {needed}", now="Ask an admin.")
        return actor


ANYONE = Access()
BROWSERS = Access(from_anywhere=True)
SIGNED_IN = Access(*PersonRole)
ANNOTATOR = Access(PersonRole.ANNOTATOR, PersonRole.ADMIN)
VIEWER = Access(PersonRole.VIEWER, PersonRole.ADMIN)
ADMIN = Access(PersonRole.ADMIN)
actor = SIGNED_IN

MaybeActor = Annotated[Actor | None, Depends(ANYONE)]
SignedIn = Annotated[Actor, Depends(SIGNED_IN)]
Annotator = Annotated[Actor, Depends(ANNOTATOR)]
Viewer = Annotated[Actor, Depends(VIEWER)]
Admin = Annotated[Actor, Depends(ADMIN)]


def guard_of(request: Request) -> Guard:
    """The guard of the application that serves `request`."""
    guard = request.app.state.guard
    assert isinstance(guard, Guard)
    return guard


def address_of(request: HTTPConnection) -> str:
    """Where a request came from."""
    return request.client.host if request.client else "nowhere"


def access_of(dependant: Dependant | None) -> Access | None:
    """What a route's tree of dependencies declares; None if it declares nothing."""
    if dependant is None:
        return None
    if isinstance(dependant.call, Access):
        return dependant.call
    return next((found for part in dependant.dependencies if (found := access_of(part)) is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedRoute:
    """A route as a person meets it, with its declared access."""

    path: str
    methods: frozenset[str]
    access: Access | None
    route: object


def guarded_routes(app: FastAPI) -> list[GuardedRoute]:
    """Every route of `app`, those of included routers too; `access` is None where it is not declared."""
    found = []
    for context in iter_route_contexts(app.router.routes):
        declared = access_of(context.dependant) if isinstance(context.original_route, APIRoute) else None
        methods = frozenset(context.methods or ())
        path, route = context.path or "", context.original_route
        found.append(GuardedRoute(path=path, methods=methods, access=declared, route=route))
    return found


def check_every_route(app: FastAPI) -> None:
    """An undeclared route is a mistake of ours, and one that nobody may ever meet."""
    bare = [route.path for route in guarded_routes(app) if route.access is None]
    assert not bare, f"routes that do not say who may use them: {bare}"


def _remember(kept: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _REMEMBERED:
        kept.popitem(last=False)
