"""Every route, whoever adds it, says who may use it and holds to that. The route table itself is the data."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from fastapi import APIRouter, FastAPI
from studio.site import Site, key

from assent.feedback.records import PersonRole
from assent.studio.security import ADMIN, SAFE_METHODS, GuardedRoute, check_every_route, guarded_routes

OPEN_TO_ANYBODY = {  # unsafe methods without a sign-in: the two doors, and what browsers send by themselves
    ("POST", "/api/sign-in"),
    ("POST", "/api/join"),
    ("POST", "/api/csp-report"),
}
NO_ORIGIN_NEEDED = {("POST", "/api/csp-report")}


def calls(site: Site) -> list[tuple[str, str, GuardedRoute]]:
    """(method, address with something in each place, route) of the whole table."""
    found = []
    for route in guarded_routes(site.app):
        for method in sorted(route.methods - {"HEAD"}):
            found.append((method, filled(route.path, site.project.id), route))
    return found


def filled(path: str, project_id: int) -> str:
    """The path with values in its places."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name in ("project_id", "p"):
            return str(project_id)
        return "1" if name.endswith(("id", "seq")) and name != "presentation_id" else "x-unknown-x"

    return re.sub(r"\{(\w+)(?::\w+)?\}", value, path)


def test_no_address_is_served_twice(site: Site) -> None:
    seen = Counter((method, route.path) for route in guarded_routes(site.app) for method in route.methods)
    assert [call for call, times in seen.items() if times > 1] == []


def test_every_route_declares_its_people(site: Site) -> None:
    assert len(guarded_routes(site.app)) > 30
    assert [route.path for route in guarded_routes(site.app) if route.access is None] == []


def test_a_route_without_declared_people_stops_the_start(site: Site) -> None:
    inner, outer = APIRouter(), APIRouter(prefix="/api")

    @inner.get("/bare")
    def bare() -> None: ...

    outer.include_router(inner)
    app = FastAPI(openapi_url=None)
    app.include_router(outer)
    with pytest.raises(AssertionError, match="/api/bare"):
        check_every_route(app)


def test_a_mounted_application_stops_the_start() -> None:
    app = FastAPI(openapi_url=None)
    app.mount("/other", FastAPI())
    with pytest.raises(AssertionError, match="/other"):
        check_every_route(app)


def test_nobody_gets_past_a_route_that_wants_a_sign_in(site: Site) -> None:
    nobody = site.browser()
    for method, path, route in calls(site):
        if route.access is not None and route.access.roles:
            answer = nobody.ask(method, path)
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"


def test_only_known_doors_take_changes_from_nobody(site: Site) -> None:
    unsafe = {
        (method, route.path)
        for method, _, route in calls(site)
        if method not in SAFE_METHODS and route.access is not None and not route.access.roles
    }
    assert unsafe == OPEN_TO_ANYBODY


@pytest.mark.parametrize("role", PersonRole)
def test_each_role_is_kept_to_its_routes(site: Site, role: PersonRole) -> None:
    person = {PersonRole.ADMIN: site.admin, PersonRole.ANNOTATOR: site.annotator, PersonRole.VIEWER: site.viewer}[role]
    browser, shut = site.browser(person), 0
    for method, path, route in calls(site):
        assert route.access is not None
        if route.access.roles and role not in route.access.roles:
            answer = browser.ask(method, path)
            assert answer.status_code == 403, f"{role} {method} {path}: {answer.status_code}"
            assert "role" in answer.text
            shut += 1
    assert (shut == 0) == (role is PersonRole.ADMIN)


@pytest.mark.parametrize("without", ["x-csrf-token", "origin"])
def test_every_change_needs_the_token_and_the_origin(site: Site, without: str) -> None:
    for person in (site.admin, site.annotator):
        browser, tried = site.browser(person), 0
        for method, path, route in calls(site):
            if method in SAFE_METHODS or (method, route.path) in NO_ORIGIN_NEEDED:
                continue
            assert route.access is not None
            if without == "x-csrf-token" and not route.access.roles:
                continue
            answer = browser.ask(method, path, without=without)
            assert answer.status_code == 403, f"{method} {path} without {without}: {answer.status_code}"
            tried += 1
        assert tried > 10


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://localhost"},
        {"origin": "http://localhost:81"},
        {"origin": "http://localhost.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    ],
)
def test_no_change_is_taken_from_another_site(site: Site, headers: dict[str, str]) -> None:
    browser = site.browser(site.admin)
    for method, path, route in calls(site):
        if method not in SAFE_METHODS and (method, route.path) not in NO_ORIGIN_NEEDED:
            answer = browser.ask(method, path, headers=headers)
            assert answer.status_code == 403, f"{method} {path} from {headers}: {answer.status_code}"


def test_somebody_elses_token_does_not_do(site: Site) -> None:
    mine, theirs = site.browser(site.annotator), site.browser(site.stranger)
    answer = mine.put("/api/me", {"topics_declined": []}, headers={"x-csrf-token": theirs.csrf})
    assert answer.status_code == 403
    assert mine.put("/api/me", {"topics_declined": []}).status_code == 200


@pytest.mark.parametrize("role", ["annotator", "viewer"])
def test_projects_of_others_do_not_exist(site: Site, role: str) -> None:
    person = getattr(site, role)
    browser, tried = site.browser(person), 0
    for method, _, route in calls(site):
        assert route.access is not None
        if "{project_id}" not in route.path and "{p}" not in route.path:
            continue
        if method != "GET" or (route.access.roles and person.role not in route.access.roles):
            continue
        for project_id in (site.foreign.id, 4711):
            path = filled(route.path, project_id)
            answer = browser.ask("GET", path)
            assert answer.status_code == 404, f"{role} GET {path}: {answer.status_code}"
        tried += 1
    assert tried >= 2


def test_presentations_and_answers_of_others_do_not_exist(site: Site) -> None:
    theirs = site.lease(site.stranger, site.foreign)
    event = site.browser(site.stranger).post("/api/answers", site.answer(theirs)).json()
    open_one = site.lease(site.stranger, site.foreign)
    for person in (site.annotator, site.admin):
        mine = site.browser(person)
        answers = [
            mine.post(f"/api/presentations/{open_one.id}/renew"),
            mine.post(f"/api/presentations/{open_one.id}/release"),
            mine.post("/api/answers", site.answer(open_one)),
            mine.post(f"/api/answers/{event['seq']}/undo", {"key": key()}),
        ]
        assert [answer.status_code for answer in answers] == [404] * 4, [answer.text for answer in answers]
    assert site.store.presentation(open_one.id, site.stranger.id) is not None
    assert [event.kind for event in site.store.events()] == ["pairwise"]


def test_methods_that_a_route_does_not_take_are_refused(site: Site) -> None:
    browser = site.browser(site.admin)
    for method in ("DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND"):
        assert browser.ask(method, "/api/me").status_code in (404, 405)


def test_the_declared_access_is_found_behind_other_dependencies(site: Site) -> None:
    assert next(r for r in guarded_routes(site.app) if r.path == "/api/openapi.json").access is ADMIN
