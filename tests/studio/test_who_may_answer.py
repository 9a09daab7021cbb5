"""Whom a project no longer asks changes nothing by any route; and what annotators may learn of items."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from studio.site import Browser, Site, items, key, turn_away

from assent.feedback.records import ProjectSettings, TaskMode

STATES = ("removed", "archived", "closed", "viewer")


def renew(site: Site, browser: Browser, shown: str, _: int) -> Any:
    return browser.post(f"/api/presentations/{shown}/renew")


def answer(site: Site, browser: Browser, shown: str, _: int) -> Any:
    body = {"key": key(), "presentation_id": shown, "kind": "pairwise", "payload": {"strength": 1}}
    return browser.post("/api/answers", body)


def skip(site: Site, browser: Browser, shown: str, _: int) -> Any:
    body = {"key": key(), "presentation_id": shown, "kind": "skip", "payload": {"reason": "other"}}
    return browser.post("/api/answers", body)


def undo(site: Site, browser: Browser, _: str, seq: int) -> Any:
    return browser.post(f"/api/answers/{seq}/undo", {"key": key()})


@pytest.mark.parametrize("told", [True, False], ids=["told", "behind its back"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("request_", [renew, answer, skip, undo])
def test_who_is_asked_no_more_changes_nothing(site: Site, request_: Any, state: str, told: bool) -> None:
    browser = site.browser(site.annotator)
    first, second = browser.get(f"/api/projects/{site.project.id}/next?count=2").json()["items"]
    seq = answer(site, browser, first["id"], 0).json()["seq"]
    turn_away(site, site.project.id, state)
    if told:
        site.app.state.guard.forget()
    events, leased = site.store.events(), site.store.presentation(second["id"], site.annotator.id)
    reply = request_(site, browser, second["id"], seq)
    assert reply.status_code in (401, 403, 404), reply.text
    assert site.store.events() == events
    assert site.store.presentation(second["id"], site.annotator.id) == leased
    more = browser.get(f"/api/projects/{site.project.id}/next")
    assert more.status_code != 200 or more.json()["items"] == []


def test_an_admin_answers_no_archived_project(site: Site) -> None:
    browser = site.browser(site.admin)
    (shown,) = browser.get(f"/api/projects/{site.project.id}/next").json()["items"]
    site.store.archive_project(site.project.id)
    assert answer(site, browser, shown["id"], 0).status_code == 404
    assert browser.get(f"/api/projects/{site.project.id}/next").json()["items"] == []


def test_an_answer_that_was_acknowledged_is_acknowledged_again_after_leaving(site: Site) -> None:
    browser = site.browser(site.annotator)
    (shown,) = browser.get(f"/api/projects/{site.project.id}/next").json()["items"]
    body = {"key": key(), "presentation_id": shown["id"], "kind": "pairwise", "payload": {"strength": 1}}
    assert browser.post("/api/answers", body).status_code == 201
    turn_away(site, site.project.id, "removed")
    assert browser.post("/api/answers", body).status_code == 200


def test_a_lease_of_who_left_can_still_be_given_back(site: Site) -> None:
    browser = site.browser(site.annotator)
    (shown,) = browser.get(f"/api/projects/{site.project.id}/next").json()["items"]
    turn_away(site, site.project.id, "removed")
    assert browser.post(f"/api/presentations/{shown['id']}/release").status_code == 200
    assert site.store.progress(site.project.id).leased == 0


def keys_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for part in value.values() for name in keys_in(part)}
    return {name for part in value for name in keys_in(part)} if isinstance(value, list) else set()


def test_nothing_that_annotators_get_names_a_model_or_links_a_repeat(site: Site) -> None:
    settings = ProjectSettings(
        mode=TaskMode.PAIRWISE, endpoints=("hidden-endpoint",), repeat_share=0.5, control_share=0.2
    )
    project = site.store.create_project("blind", settings)
    given = items(40)
    site.store.add_items(
        project.id, [*given[:35], *(replace(one, control_answer={"strength": 1}) for one in given[35:])]
    )
    site.store.set_members(project.id, [site.annotator.id])
    browser, replies = site.browser(site.annotator), []
    for _ in range(45):
        asked = browser.get(f"/api/projects/{project.id}/next?count=1")
        replies.append(asked)
        for shown in asked.json()["items"]:
            body = {"key": key(), "presentation_id": shown["id"], "kind": "pairwise", "payload": {"strength": 1}}
            replies.append(browser.post("/api/answers", body))
    assert any(event.repeat for event in site.store.events(project.id)), "there was no repeat to be told from others"
    newest = site.store.events(project.id, limit=1, newest_first=True)[0].seq
    replies.append(browser.post(f"/api/answers/{newest}/undo", {"key": key()}))
    mine = browser.get(f"/api/projects/{project.id}/mine?limit=500")
    for path in ("/api/projects", f"/api/projects/{project.id}", f"/label/{project.id}", "/label", "/api/me"):
        replies.append(browser.get(path))
    for path in ("guideline", "fatigue"):
        replies.append(browser.get(f"/api/projects/{project.id}/{path}"))
    for reply in (*replies, mine):
        assert reply.status_code < 300
        for hidden in ("hidden-endpoint", "secret-a", "secret-b"):
            assert hidden not in reply.text
        if reply.headers["content-type"].startswith("application/json"):
            assert not keys_in(reply.json()) & {
                "item_id",
                "repeat",
                "control_answer",
                "endpoints",
                "model",
                "models",
                "order",
            }
    ids = [one["presentation_id"] for one in mine.json() if one["presentation_id"]]
    assert len(set(ids)) == len(ids), "one number for two showings tells a repeat"
    assert json.loads(mine.text)[0]["undone"]
