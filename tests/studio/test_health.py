"""What the studio says of its own state: /healthz, refusals while the store is lost, the address, reports, the door."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import pytest
from feedback.postgres import reason_to_skip, running_server
from studio.site import SETTINGS, Browser, Site, key

from assent.feedback.records import PersonRole
from assent.feedback.refusals import Unavailable
from assent.feedback.store.store import FeedbackStore
from assent.studio.app import create_app
from assent.studio.server import bind
from assent.studio.settings import StudioSettings


def test_a_store_that_writes_is_well(site: Site) -> None:
    answer = site.browser().get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


def test_a_lost_file_is_told_to_who_asks_and_takes_no_answer(site: Site, tmp_path: Path) -> None:
    browser, nobody = site.browser(site.annotator), site.browser()
    first, second = browser.get(f"/api/projects/{site.project.id}/next?count=2").json()["items"]
    sent = [
        {"key": key(), "presentation_id": one["id"], "kind": "pairwise", "payload": {"strength": 1}}
        for one in (first, second)
    ]
    assert browser.post("/api/answers", sent[0]).status_code == 201
    place = tmp_path / "studio.db"
    place.rename(tmp_path / "moved.db")
    refused, health = browser.post("/api/answers", sent[1]), nobody.get("/healthz")
    assert refused.status_code == health.status_code == 503 and refused.headers["retry-after"]
    assert refused.json()["error"]["what"] == health.json()["what"] and "gone" in health.json()["what"]
    assert health.json()["ok"] is False and str(tmp_path) not in health.text + refused.text
    assert not place.exists()
    (tmp_path / "moved.db").rename(place)
    assert nobody.get("/healthz").status_code == 200
    assert browser.post("/api/answers", sent[1]).status_code == 201


@pytest.mark.slow
def test_a_server_that_is_gone_is_told_and_so_is_its_return() -> None:
    if reason := reason_to_skip():
        pytest.skip(reason)
    with running_server() as server, FeedbackStore.open(server.url()) as store:
        nobody = Browser(create_app(store, SETTINGS))
        assert nobody.get("/healthz").status_code == 200
        server.crash()
        with pytest.raises(Unavailable, match="does not answer"):
            store.check(patience_s=0.5)
        assert nobody.get("/healthz").status_code == 503
        server.start()
        store.check(patience_s=60.0)
        assert nobody.get("/healthz").status_code == 200


def test_the_door_of_a_store_without_an_admin_says_where_the_link_is(tmp_path: Path, site: Site) -> None:
    with FeedbackStore.open(str(tmp_path / "new.db")) as store:
        nobody = Browser(create_app(store, SETTINGS))
        assert "terminal" in nobody.get("/sign-in").text
        store.create_person("Ada", PersonRole.ADMIN, "a long password")
        assert "terminal" not in nobody.get("/sign-in").text and "invitation" in nobody.get("/sign-in").text


def test_all_interfaces_are_named_by_an_address_that_works(site: Site) -> None:
    settings = StudioSettings(host="0.0.0.0", port=0)
    door = bind(settings)
    with door.listener:
        name = door.url.removeprefix("http://").rpartition(":")[0]
        assert name not in ("0.0.0.0", "localhost", "127.0.0.1")
        nobody = Browser(create_app(site.store, settings), origin=door.url)
        for host in (name, socket.gethostname(), "localhost"):
            assert nobody.get("/healthz", headers={"host": f"{host}:80"}).status_code == 200
        assert nobody.get("/healthz", headers={"host": "evil.example"}).status_code == 400
    named = bind(settings.model_copy(update={"hosts": ("judge.example.org",)}))
    with named.listener:
        assert named.url.startswith("http://judge.example.org:")


def test_reports_of_browsers_fill_no_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    nobody = site.browser()
    with caplog.at_level(logging.WARNING, logger="assent.studio"):
        for _ in range(40):
            report = json.dumps({"csp-report": {"blocked-uri": "x" * 20_000}})
            assert nobody.post("/api/csp-report", content=report).status_code == 204
        assert nobody.post("/api/csp-report", content="x" * 900_000).status_code == 413
    told = [record.getMessage() for record in caplog.records]
    assert 0 < len(told) <= 12 and sum(map(len, told)) < 10_000
    assert site.app.state.guard.reports == 41
