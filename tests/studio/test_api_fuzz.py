"""Whatever is sent to whichever described operation, by whomever: no answer is a 5xx. The OpenAPI is the list."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core import NotSet
from studio.site import Browser, Site

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
EXAMPLES = {"nobody": 2, "annotator": 5, "viewer": 4, "admin": 12}


@pytest.mark.slow
@pytest.mark.parametrize("role", EXAMPLES)
def test_no_request_whatever_breaks_the_api(site: Site, role: str) -> None:
    event = site.browser(site.annotator).post("/api/answers", site.answer(site.lease(site.annotator))).json()
    known = {
        "project_id": site.project.id, "person_id": site.annotator.id, "seq": event["seq"], "item_id": 1,
        "presentation_id": site.lease(site.annotator).id,
    }  # fmt: skip
    told: Counter[int] = Counter()
    schema, tried = schemathesis.openapi.from_dict(site.app.openapi()), 0
    for result in schema.get_all_operations():
        operation = result.ok()
        browser = site.browser(None if role == "nobody" else getattr(site, role))  # the one before may have signed out
        try_out(operation, browser, EXAMPLES[role], known, told)
        tried += 1
    assert tried > 30 and told[4] > 20
    assert told[2] > {"nobody": -1, "admin": 20}.get(role, 3), told


def try_out(operation: Any, browser: Browser, examples: int, known: dict[str, Any], told: Counter[int]) -> None:
    """Requests that fit the description and requests that do not, to places that exist where we know some."""
    places = {one.name: known[one.name] for one in operation.path_parameters if one.name in known}
    kinds = [operation.as_strategy(generation_mode=mode, path_parameters=places or None) for mode in GenerationMode]

    @given(case=st.one_of(kinds))
    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def call(case: Any) -> None:
        answer = send(browser, case)
        told[answer.status_code // 100] += 1
        assert answer.status_code < 500, f"{case.method} {case.path}: {answer.status_code} {answer.text[:300]}"

    call()


def send(browser: Browser, case: Any) -> Any:
    """The case as a request of this browser."""
    headers = {name: value for name, value in (case.headers or {}).items() if name.lower() not in SET_BY_US}
    content: dict[str, Any] = {}
    if isinstance(case.body, str | bytes) and "json" not in (case.media_type or ""):
        content["content"] = case.body
    elif not isinstance(case.body, NotSet):
        content["content"] = json.dumps(case.body, default=repr)
        headers.setdefault("content-type", "application/json")
    try:
        return browser.ask(case.method, case.formatted_path, headers=headers, params=dict(case.query or {}), **content)
    except (UnicodeEncodeError, ValueError, TypeError):  # what no client can put on the wire
        return browser.get("/healthz")


SET_BY_US = {"cookie", "origin", "x-csrf-token", "host", "content-length"}
