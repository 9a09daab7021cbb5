"""Doors: closed registration, invitations, signing in, one's own account, the people as admins see them."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from studio.site import PASSWORD, SETTINGS, Browser, Site

from assent.feedback.records import Person, PersonRole
from assent.feedback.store.store import FeedbackStore
from assent.studio.app import create_app
from assent.studio.server import first_admin_path


def with_password(site: Site, person: Person) -> Person:
    site.store.set_password(person.id, PASSWORD)
    return person


def signed_in(app_browser: Browser, answer) -> Browser:  # type: ignore[no-untyped-def]
    cookie = answer.headers["set-cookie"].split(";")[0]
    return Browser(app_browser.client.app, cookie, answer.json()["csrf"])  # type: ignore[arg-type]


def test_the_first_admin_comes_by_a_link_that_works_once(tmp_path: Path) -> None:
    with FeedbackStore.open(str(tmp_path / "new.db")) as store:
        path = first_admin_path(store)
        assert path is not None
        nobody = Browser(create_app(store, SETTINGS))
        token = path.removeprefix("/join/")
        assert nobody.get(path).status_code == 200
        body = {"token": token, "name": "Ada", "password": PASSWORD}
        answer = nobody.post("/api/join", body)
        assert answer.status_code == 201 and answer.json()["person"]["role"] == "admin"
        assert signed_in(nobody, answer).get("/api/me").json()["person"]["name"] == "Ada"
        assert nobody.post("/api/join", body | {"name": "Eve"}).status_code == 404
        assert nobody.get(path).status_code == 404
        assert first_admin_path(store) is None
        assert [person.name for person in store.people()] == ["Ada"]


def test_nobody_joins_without_an_invitation(site: Site) -> None:
    nobody, before = site.browser(), site.store.people()
    for token in ("x", "a" * 43, "../..", ""):
        answer = nobody.post("/api/join", {"token": token, "name": "Eve", "password": PASSWORD})
        assert answer.status_code in (404, 422)
    assert site.store.people() == before


def test_an_invitation_gives_its_role_and_projects(site: Site) -> None:
    admin = site.browser(site.admin)
    invited = admin.post("/api/invitations", {"role": "annotator", "project_ids": [site.foreign.id]})
    assert invited.status_code == 201 and invited.json()["path"] == f"/join/{invited.json()['token']}"
    nobody = site.browser()
    answer = nobody.post("/api/join", {"token": invited.json()["token"], "name": "Bo", "password": PASSWORD})
    annotator = signed_in(nobody, answer)
    assert [project["name"] for project in annotator.get("/api/projects").json()] == ["foreign"]
    assert annotator.get("/api/people").status_code == 403
    unknown = admin.post("/api/invitations", {"role": "annotator", "project_ids": [999]})
    assert unknown.status_code == 404


@pytest.mark.parametrize("password", ["short", "", "x" * 1001, "nul\0nul nul nul"])
def test_poor_passwords_are_refused(site: Site, password: str) -> None:
    token = site.store.invite(PersonRole.ANNOTATOR, [])
    answer = site.browser().post("/api/join", {"token": token, "name": "Bo", "password": password})
    assert answer.status_code == 422 and answer.json()["error"]["where"] == "password"
    assert site.store.invitation(token) is not None


def test_signing_in_and_out(site: Site) -> None:
    with_password(site, site.annotator)
    nobody = site.browser()
    answer = nobody.post("/api/sign-in", {"name": "THE ANNOTATOR", "password": PASSWORD})
    browser = signed_in(nobody, answer)
    assert answer.status_code == 200 and PASSWORD not in answer.text
    me = browser.get("/api/me").json()
    assert me["person"]["name"] == "the annotator" and me["csrf"] == answer.json()["csrf"]
    out = browser.post("/api/sign-out")
    assert out.status_code == 200 and "max-age=0" in out.headers["set-cookie"].lower()
    assert browser.get("/api/me").status_code == 401


def test_wrong_names_and_wrong_passwords_get_the_same_words(site: Site) -> None:
    with_password(site, site.annotator)
    nobody = site.browser()
    wrong = nobody.post("/api/sign-in", {"name": "the annotator", "password": "not this one"})
    unknown = nobody.post("/api/sign-in", {"name": "no such person", "password": "not this one"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()


def test_five_wrong_attempts_shut_the_door_even_for_the_right_password(site: Site) -> None:
    with_password(site, site.annotator)
    nobody, body = site.browser(), {"name": "the annotator", "password": "not this one"}
    assert [nobody.post("/api/sign-in", body).status_code for _ in range(6)] == [401] * 5 + [429]
    right = nobody.post("/api/sign-in", {"name": " The Annotator ", "password": PASSWORD})
    assert right.status_code == 429 and 0 < int(right.headers["retry-after"]) <= 900
    with_password(site, site.viewer)
    assert nobody.post("/api/sign-in", {"name": "the viewer", "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize(
    "spelling",
    ["\uff54he annotator", "THE ANNOTATOR", "the \uff41nnotator", "the\u00a0annotator", "the annotat\u2134r"],
)
def test_no_other_spelling_has_attempts_of_its_own(site: Site, spelling: str) -> None:
    with_password(site, site.annotator)
    nobody, body = site.browser(), {"name": "the annotator", "password": "not this one"}
    assert [nobody.post("/api/sign-in", body).status_code for _ in range(5)] == [401] * 5
    assert nobody.post("/api/sign-in", {"name": spelling, "password": PASSWORD}).status_code in (401, 429)
    assert nobody.post("/api/sign-in", {"name": "the annotator", "password": PASSWORD}).status_code == 429


def test_from_many_addresses_an_account_has_the_attempts_of_an_account(site: Site) -> None:
    with_password(site, site.annotator)
    spellings = ("the annotator", "THE ANNOTATOR", "\uff54he annotator", "the annotato\uff52")
    codes = []
    for number in range(24):
        visitor = site.browser()
        visitor.client = TestClient(site.app, base_url=visitor.origin, client=(f"10.0.0.{number}", 5000))
        body = {"name": spellings[number % len(spellings)], "password": "not this one"}
        codes.append(visitor.post("/api/sign-in", body).status_code)
    assert codes == [401] * 20 + [429] * 4


def test_nobody_joins_as_a_double(site: Site) -> None:
    for name, status in (("the \u0430nnotator", 409), ("the\u200b annotator", 422), ("\u202ethe annotator", 422)):
        token = site.store.invite(PersonRole.ANNOTATOR, [])
        answer = site.browser().post("/api/join", {"token": token, "name": name, "password": PASSWORD})
        assert answer.status_code == status and answer.json()["error"]["where"] == "name"
        assert site.store.invitation(token) is not None


def test_one_address_cannot_try_many_names(site: Site) -> None:
    nobody = Browser(create_app(site.store, SETTINGS.model_copy(update={"sign_in_attempts": 1})))
    tries = [nobody.post("/api/sign-in", {"name": f"n{i}", "password": "wrong"}).status_code for i in range(5)]
    assert tries == [401] * 4 + [429]


def test_a_new_sign_in_ends_the_one_before_it_in_the_same_browser(site: Site) -> None:
    with_password(site, site.annotator)
    before = site.browser(site.annotator)
    answer = before.post("/api/sign-in", {"name": "the annotator", "password": PASSWORD})
    assert answer.status_code == 200
    assert before.get("/api/me").status_code == 401
    assert signed_in(before, answer).get("/api/me").status_code == 200


def test_a_new_password_ends_every_sign_in(site: Site) -> None:
    with_password(site, site.annotator)
    here, elsewhere = site.browser(site.annotator), site.browser(site.annotator)
    assert elsewhere.get("/api/me").status_code == 200
    assert here.put("/api/me/password", {"old": "wrong", "new": "another long one"}).status_code == 401
    answer = here.put("/api/me/password", {"old": PASSWORD, "new": "another long one"})
    assert answer.status_code == 200
    assert here.get("/api/me").status_code == elsewhere.get("/api/me").status_code == 401
    assert signed_in(here, answer).get("/api/me").status_code == 200
    assert site.store.check_password("the annotator", "another long one") == site.annotator


def test_who_is_shut_out_is_out_at_once(site: Site) -> None:
    annotator, admin = site.browser(site.annotator), site.browser(site.admin)
    assert annotator.get("/api/me").status_code == 200
    assert admin.put(f"/api/people/{site.annotator.id}", {"active": False}).json()["active"] is False
    assert annotator.get("/api/me").status_code == 401


def test_a_changed_role_holds_at_once(site: Site) -> None:
    viewer, admin = site.browser(site.viewer), site.browser(site.admin)
    assert viewer.get("/api/people").status_code == 403
    assert admin.put(f"/api/people/{site.viewer.id}", {"role": "admin"}).status_code == 200
    assert viewer.get("/api/people").status_code == 200


@pytest.mark.parametrize("change", [{"role": "annotator"}, {"active": False}])
def test_the_last_admin_cannot_go(site: Site, change: dict[str, object]) -> None:
    answer = site.browser(site.admin).put(f"/api/people/{site.admin.id}", change)
    assert answer.status_code == 409
    assert site.store.person(site.admin.id) == site.admin


def test_an_admin_gives_a_forgotten_password_anew(site: Site) -> None:
    admin, path = site.browser(site.admin), f"/api/people/{site.annotator.id}/password"
    assert admin.put(path, {"new": PASSWORD}).status_code == 200
    assert site.store.check_password("the annotator", PASSWORD) is not None
    assert site.browser(site.annotator).put(path, {"new": PASSWORD}).status_code == 403
    assert admin.put("/api/people/999/password", {"new": PASSWORD}).status_code == 404


def test_topics_declined_are_ones_own(site: Site) -> None:
    answer = site.browser(site.annotator).put("/api/me", {"topics_declined": ["war", "war", "games"]})
    assert answer.json()["person"]["topics_declined"] == ["war", "games"]
    assert site.store.person(site.annotator.id).topics_declined == ("war", "games")


def test_no_answer_holds_a_hash_or_a_token_of_others(site: Site) -> None:
    with_password(site, site.annotator)
    admin = site.browser(site.admin)
    site.browser(site.annotator)
    for path in ("/api/people", f"/api/people/{site.annotator.id}", "/api/me", "/api/projects"):
        text = admin.get(path).text
        assert "argon2" not in text and "password" not in text and "sha256" not in text
