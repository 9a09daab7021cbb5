"""What holds for every answer: headers, hosts, sizes, errors without tracebacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import Depends
from studio.site import ORIGIN, SETTINGS, Browser, Site

from assent.studio.app import create_app
from assent.studio.security import ADMIN
from assent.studio.shield import CONTENT_POLICY, HEADERS


def hosted(host: str) -> dict[str, str]:
    return {"host": host}


def test_every_kind_of_answer_carries_the_headers(site: Site) -> None:
    @site.app.get("/api/broken", dependencies=[Depends(ADMIN)])
    def broken() -> None:
        raise ZeroDivisionError("a secret detail")

    browser, nobody = site.browser(site.admin), site.browser()
    answers = [
        browser.get("/api/me"),
        browser.get("/api/broken"),
        browser.get("/nowhere"),
        browser.get("/api/projects/abc"),
        nobody.get("/api/me"),
        nobody.get("/", headers={"accept": "text/html"}),
        nobody.get("/healthz"),
        nobody.get("/static/assent.css"),
        nobody.get("/healthz", headers=hosted("evil.example")),
        nobody.get(f"/healthz?{'x' * 3000}"),
        browser.post("/api/projects", content=b"x" * (SETTINGS.body_limit_bytes + 1)),
    ]
    assert [answer.status_code for answer in answers] == [200, 500, 404, 422, 401, 303, 200, 200, 400, 414, 413]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "cache-control" in answer.headers
        assert "server" not in answer.headers


def test_the_content_policy_allows_nothing_inline_and_nobody_elses() -> None:
    assert "unsafe" not in CONTENT_POLICY and "*" not in CONTENT_POLICY and "data:" not in CONTENT_POLICY
    for rule in ("default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert rule in CONTENT_POLICY
    assert "require-trusted-types-for 'script'" in CONTENT_POLICY and "trusted-types 'none'" in CONTENT_POLICY


def test_a_mistake_of_ours_tells_people_nothing_secret(site: Site) -> None:
    @site.app.get("/broken", dependencies=[Depends(ADMIN)])
    def broken() -> None:
        raise ZeroDivisionError("a secret detail")

    browser = site.browser(site.admin)
    as_json, as_page = browser.get("/broken"), browser.get("/broken", headers={"accept": "text/html"})
    assert as_json.status_code == as_page.status_code == 500
    assert set(as_json.json()["error"]) == {"what", "where", "now"}
    assert as_page.headers["content-type"].startswith("text/html")
    for answer in (as_json, as_page):
        assert "secret" not in answer.text and "Traceback" not in answer.text and "broken" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "localhost:80:80", "127.0.0.1.nip.io"])
def test_unknown_names_of_the_site_are_refused(site: Site, host: str) -> None:
    assert site.browser().get("/healthz", headers=hosted(host)).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8642", "127.0.0.1:1", "[::1]:8642", "[::1]"])
def test_known_names_of_the_site_are_served(site: Site, host: str) -> None:
    assert site.browser().get("/healthz", headers=hosted(host)).status_code == 200


def test_further_names_come_from_the_settings(site: Site) -> None:
    app = create_app(site.store, SETTINGS.model_copy(update={"hosts": ("Judge.Example",)}))
    assert Browser(app).get("/healthz", headers=hosted("judge.example:443")).status_code == 200


def test_a_body_of_many_pieces_is_measured_as_it_comes(site: Site) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 65536

    browser = site.browser(site.admin)
    answer = browser.post("/api/projects", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "error" in answer.json() and answer.headers["connection"] == "close"


def test_an_upload_may_be_larger_than_other_bodies_but_not_endless(site: Site) -> None:
    small = SETTINGS.model_copy(update={"body_limit_bytes": 2048, "upload_limit_bytes": 8192})
    app = create_app(site.store, small)
    own = site.browser(site.admin)
    browser = Browser(app, own.cookie, own.csrf)
    path, line = (
        f"/api/projects/{site.project.id}/items",
        b'{"prompt": "' + b"q" * 500 + b'", "candidates": ["a", "b"]}\n',
    )
    assert browser.post(path, content=line * 10).status_code == 201
    assert browser.post(path, content=line * 20).status_code == 413
    assert browser.post("/api/projects", content=line * 10).status_code == 413


def test_the_cookie_is_out_of_reach(site: Site) -> None:
    site.store.set_password(site.admin.id, "a long password")
    body = {"name": site.admin.name, "password": "a long password"}
    plain = site.browser().post("/api/sign-in", body).headers["set-cookie"].lower()
    assert plain.startswith("assent=") and "httponly" in plain and "samesite=strict" in plain and "path=/" in plain
    assert "domain" not in plain and "secure" not in plain
    app = create_app(site.store, SETTINGS.model_copy(update={"tls": True}))
    answer = Browser(app, origin="https://localhost").post("/api/sign-in", body)
    safe = answer.headers["set-cookie"]
    assert safe.startswith("__Host-assent=") and "secure" in safe.lower() and "domain" not in safe.lower()
    assert "strict-transport-security" in answer.headers


def test_under_tls_the_origin_is_https(site: Site) -> None:
    app = create_app(site.store, SETTINGS.model_copy(update={"tls": True}))
    body = {"name": "nobody", "password": "a long password"}
    assert Browser(app, origin="https://localhost").post("/api/sign-in", body).status_code == 401
    assert Browser(app, origin=ORIGIN).post("/api/sign-in", body).status_code == 403


@pytest.mark.parametrize(
    "name",
    [
        "../app.py", "..%2fapp.py", "%2e%2e/app.py", "....//app.py", "/etc/passwd", "%2fetc%2fpasswd",
        "assent.css%00.js", "..%2f", "ASSENT.CSS", "assent.css/x", "%2e%2e%2f%2e%2e%2fapp.py",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_static_files(site: Site, name: str) -> None:
    answer = site.browser().get(f"/static/{name}")
    assert answer.status_code == 404, answer.text[:200]


def test_static_files_have_their_types_and_may_be_kept(site: Site) -> None:
    browser = site.browser()
    first = browser.get("/static/net.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = browser.get("/static/net.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and again.content == b""


def test_browsers_reports_are_counted(site: Site) -> None:
    nobody = site.browser()
    for number in range(1, 4):
        sent = {"content-type": "application/csp-report", "sec-fetch-site": "same-origin"}
        answer = nobody.post("/api/csp-report", content=b'{"csp-report": {"blocked-uri": "inline\n"}}', headers=sent)
        assert answer.status_code == 204 and site.app.state.guard.reports == number


def test_errors_say_what_where_and_now(site: Site) -> None:
    answer = site.browser(site.admin).post("/api/projects", {"name": "x", "settings": {"overlap": 0}})
    assert answer.status_code == 422
    assert answer.json()["error"]["where"] == "settings.overlap"
    assert "greater than or equal to 1" in answer.json()["error"]["what"]


def test_people_without_a_sign_in_are_led_to_it(site: Site) -> None:
    answer = site.browser().get("/label", headers={"accept": "text/html,*/*"})
    assert answer.status_code == 303 and answer.headers["location"] == "/sign-in"


def test_an_error_page_shows_text_as_text(site: Site) -> None:
    answer = site.browser().get("/join/abc", headers={"accept": "text/html"})
    assert answer.status_code == 404 and "<script>alert" not in answer.text and "<h1>" in answer.text
