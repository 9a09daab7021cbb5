"""Labeling over HTTP: items go out blind, answers come back once, what is acknowledged stands, undo keeps history."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studio.site import SETTINGS, Browser, Site, items, key

from assent.feedback.records import EventKind, NewItem, ProjectSettings, TaskMode
from assent.studio.app import create_app


def next_items(site: Site, browser: Browser, count: int = 1) -> list[dict]:  # type: ignore[type-arg]
    answer = browser.get(f"/api/projects/{site.project.id}/next?count={count}")
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]  # type: ignore[no-any-return]


def body(item: dict, **changes: object) -> dict:  # type: ignore[type-arg]
    return {"key": key(), "presentation_id": item["id"], "kind": "pairwise", "payload": {"strength": 1}, **changes}


def test_items_are_shown_blind(site: Site) -> None:
    site.store.add_items(
        site.project.id, [replace(items(1)[0], control_answer={"strength": 1}, serves="random", topic="t", key="k1")]
    )
    browser = site.browser(site.annotator)
    answer = browser.get(f"/api/projects/{site.project.id}/next?count=5")
    assert answer.json()["left"] == 60
    for shown in answer.json()["items"]:
        assert set(shown) == {
            "id", "project_id", "mode", "prompt", "shown", "criteria", "guideline_version", "sensitive",
            "topic", "expires_at",
        }  # fmt: skip
        assert [set(one) for one in shown["shown"]] == [{"slot", "text"}] * 2
        assert [one["slot"] for one in shown["shown"]] == [0, 1]
    assert "secret" not in answer.text and "control_answer" not in answer.text and "random" not in answer.text


def test_asking_again_gives_the_same_items_in_the_same_order(site: Site) -> None:
    browser = site.browser(site.annotator)
    assert next_items(site, browser, 3) == next_items(site, browser, 3)


def test_an_answer_is_kept_as_it_was_meant(site: Site) -> None:
    browser = site.browser(site.annotator)
    (item,) = next_items(site, browser)
    answer = browser.post("/api/answers", body(item, time_taken_ms=1234))
    assert answer.status_code == 201
    (event,) = site.store.events()
    assert answer.json() == {"seq": event.seq, "kind": "pairwise"}
    better = site.store.item(event.item_id).new.candidates[1 if event.payload["strength"] > 0 else 0]
    assert better.text == item["shown"][1]["text"]
    assert event.time_taken_ms == 1234 and event.person_id == site.annotator.id


def test_the_same_key_again_changes_nothing_and_is_answered_alike(site: Site) -> None:
    browser = site.browser(site.annotator)
    (item,) = next_items(site, browser)
    sent = body(item)
    first = browser.post("/api/answers", sent)
    again = [browser.post("/api/answers", sent | {"time_taken_ms": 1}) for _ in range(3)]
    assert first.status_code == 201 and [answer.status_code for answer in again] == [200] * 3
    assert all(answer.json() == first.json() for answer in again)
    assert len(site.store.events()) == 1


@pytest.mark.parametrize(
    "other",
    [{"payload": {"strength": -3}}, {"payload": {"strength": 9}}, {"kind": "skip", "payload": {"reason": "other"}}],
)
def test_a_key_that_comes_with_another_answer_is_refused(site: Site, other: dict[str, object]) -> None:
    browser = site.browser(site.annotator)
    item, second = next_items(site, browser, 2)
    sent = body(item)
    assert browser.post("/api/answers", sent).status_code == 201
    for changed in (sent | other, sent | {"presentation_id": second["id"]}, sent | {"presentation_id": "unknown"}):
        answer = browser.post("/api/answers", changed)
        assert answer.status_code == 409 and answer.json()["error"]["where"] == "key"
    assert browser.post("/api/answers", sent).status_code == 200
    assert len(site.store.events()) == 1


def test_a_key_of_an_undo_undoes_nothing_else(site: Site) -> None:
    browser = site.browser(site.annotator)
    seqs = [browser.post("/api/answers", body(item)).json()["seq"] for item in next_items(site, browser, 2)]
    undo = {"key": key()}
    assert browser.post(f"/api/answers/{seqs[0]}/undo", undo).status_code == 201
    assert browser.post(f"/api/answers/{seqs[1]}/undo", undo).status_code == 409
    assert browser.post(f"/api/answers/{seqs[0]}/undo", undo).status_code == 200
    (item,) = next_items(site, browser)
    assert browser.post("/api/answers", body(item, key=undo["key"])).status_code == 409


def test_a_key_repeated_after_a_restart_gets_the_same_answer(site: Site) -> None:
    browser = site.browser(site.annotator)
    (item,) = next_items(site, browser)
    sent = body(item)
    first = browser.post("/api/answers", sent)
    fresh = Browser(create_app(site.store, SETTINGS), browser.cookie, browser.csrf)
    again = fresh.post("/api/answers", sent)
    assert again.json() == first.json() and again.status_code == 200
    assert len(site.store.events()) == 1


def test_an_item_answered_by_others_meanwhile_is_taken(site: Site) -> None:
    browser = site.browser(site.annotator)
    sent = body(next_items(site, browser)[0])
    assert browser.post("/api/answers", sent).status_code == 201
    second = browser.post("/api/answers", sent | {"key": key()})
    assert second.status_code == 409 and second.json()["error"]["what"].startswith("taken")


def test_undo_brings_the_item_back_and_keeps_both_lines(site: Site) -> None:
    browser = site.browser(site.annotator)
    first = next_items(site, browser)[0]
    seq = browser.post("/api/answers", body(first)).json()["seq"]
    undo = {"key": key()}
    answer = browser.post(f"/api/answers/{seq}/undo", undo)
    assert answer.status_code == 201 and answer.json() == {"seq": seq + 1, "undone_seq": seq}
    assert browser.post(f"/api/answers/{seq}/undo", undo).status_code == 200
    assert browser.post(f"/api/answers/{seq}/undo", {"key": key()}).status_code == 409
    assert next_items(site, browser)[0] | {"expires_at": 0} == first | {"expires_at": 0}
    assert [event.kind for event in site.store.events()] == [EventKind.PAIRWISE, EventKind.UNDO]
    (mine,) = browser.get(f"/api/projects/{site.project.id}/mine").json()
    assert mine["seq"] == seq and mine["undone"] is True


def test_ones_own_history_is_newest_first_and_only_ones_own(site: Site) -> None:
    browser = site.browser(site.annotator)
    for item in next_items(site, browser, 4):
        browser.post("/api/answers", body(item))
    path = f"/api/projects/{site.project.id}/mine"
    seqs = [line["seq"] for line in browser.get(path).json()]
    assert seqs == sorted(seqs, reverse=True) and len(seqs) == 4
    assert len(browser.get(f"{path}?limit=2").json()) == 2
    assert site.browser(site.admin).get(path).json() == []


def test_leases_are_renewed_and_given_back(site: Site) -> None:
    browser = site.browser(site.annotator)
    (item,) = next_items(site, browser)
    assert browser.post(f"/api/presentations/{item['id']}/renew").json() == {"renewed": True}
    assert browser.post(f"/api/presentations/{item['id']}/release").json() == {"released": True}
    assert browser.post(f"/api/presentations/{item['id']}/renew").json() == {"renewed": False}


def test_guidelines_by_version(site: Site) -> None:
    site.store.add_guideline(site.project.id, "Be fairer.", "ada")
    browser, path = site.browser(site.annotator), f"/api/projects/{site.project.id}/guideline"
    assert browser.get(path).json()["text"] == "Be fairer."
    assert browser.get(f"{path}?version=1").json()["text"] == "Be fair."
    assert browser.get(f"{path}?version=9").status_code == 404


def test_fatigue_is_told(site: Site) -> None:
    browser = site.browser(site.annotator)
    for item in next_items(site, browser, 5):
        browser.post("/api/answers", body(item, payload={"strength": -1}))
    for item in next_items(site, browser, 4):
        browser.post("/api/answers", body(item, payload={"strength": -1}))
    told = browser.get(f"/api/projects/{site.project.id}/fatigue").json()
    assert told["answers_last_hour"] == 9 and told["always_left_run"] == 9
    assert "9 times" in told["hint"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"payload": {"strength": 9}}, "payload.strength"),
        ({"payload": {"strength": "1"}}, "payload.strength"),
        ({"payload": {}}, "payload.strength"),
        ({"payload": {"strength": 1, "extra": 1}}, "payload.extra"),
        ({"kind": "undo"}, "kind"),
        ({"kind": "ranking", "payload": {"ranks": [1, 2]}}, "kind"),
        ({"key": "x"}, "key"),
        ({"key": None}, "key"),
        ({"time_taken_ms": -1}, "time_taken_ms"),
        ({"presentation_id": "a/b"}, "presentation_id"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_bodies_that_cannot_be_used_name_the_field(site: Site, change: dict[str, object], where: str) -> None:
    browser = site.browser(site.annotator)
    answer = browser.post("/api/answers", body(next_items(site, browser)[0]) | change)
    assert answer.status_code == 422 and answer.json()["error"]["where"] == where
    assert site.store.events() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"key": "\\ud800"}',
        b'{"payload": NaN}',
        b"{}{}",
    ],
)
def test_bodies_that_are_no_answer_are_refused_cleanly(site: Site, raw: bytes) -> None:
    browser = site.browser(site.annotator)
    for path in ("/api/answers", "/api/answers/1/undo", "/api/sign-in"):
        answer = browser.post(path, content=raw, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422) and "error" in answer.json(), answer.text


def test_what_a_model_said_is_not_taken_from_the_annotator(site: Site) -> None:
    chat = site.store.create_project("chat", ProjectSettings(mode=TaskMode.CHAT, endpoints=("tiny",)))
    site.store.add_items(chat.id, [NewItem(prompt=items(1)[0].prompt)])
    site.store.set_members(chat.id, [site.annotator.id])
    shown = site.lease(site.annotator, chat)
    said = {"conversation": [{"role": "user", "content": "hi"}], "a": "x", "b": "y", "choice": "a"}
    sent = {"key": key(), "presentation_id": shown.id, "kind": "chat_turn", "payload": said}
    browser = site.browser(site.annotator)
    answer = browser.post("/api/answers", sent)
    assert answer.status_code == 422 and answer.json()["error"]["where"] == "kind"
    assert browser.get(f"/label/{chat.id}").headers["location"] == f"/chat/{chat.id}"


def test_viewers_do_not_label(site: Site) -> None:
    assert site.browser(site.viewer).get(f"/api/projects/{site.project.id}/next").status_code == 403


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["key", "presentation_id", "kind", "payload", "time_taken_ms", "other", "strength", "ranks"])


@given(
    whole=ANYTHING | st.dictionaries(FIELDS, ANYTHING, max_size=6),
    payload=ANYTHING | st.dictionaries(FIELDS, ANYTHING),
    kind=st.sampled_from([str(kind) for kind in EventKind]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_whatever_breaks_the_answer_route(site: Site, whole: object, payload: object, kind: str) -> None:
    browser = site.browser(site.annotator)
    shown = site.lease(site.annotator)
    for sent in (whole, {"key": key(), "presentation_id": shown.id, "kind": kind, "payload": payload}):
        raw = json.dumps(sent, ensure_ascii=True)
        answer = browser.post("/api/answers", content=raw, headers={"content-type": "application/json"})
        assert answer.status_code in (201, 409, 422), f"{answer.status_code} for {raw[:300]}"
