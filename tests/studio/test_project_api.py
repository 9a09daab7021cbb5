"""Projects over HTTP: made, changed, filled with items, given guidelines and members."""

from __future__ import annotations

import json

import pytest
from studio.site import Site

from assent.feedback.records import EventKind


def lines(*items: object) -> str:
    return "\n".join(json.dumps(item) for item in items)


def test_a_project_is_made_and_changed(site: Site) -> None:
    admin = site.browser(site.admin)
    made = admin.post("/api/projects", {"name": "new", "settings": {"mode": "ranking", "overlap": 3}})
    assert made.status_code == 201 and made.json()["settings"]["overlap"] == 3
    assert admin.post("/api/projects", {"name": "new"}).status_code == 409
    path = f"/api/projects/{made.json()['id']}"
    changed = admin.put(path, {"settings": {"mode": "ranking", "overlap": 5, "instructions": "Look twice."}})
    assert changed.json()["settings"]["overlap"] == 5
    assert admin.put(path, {"archived": True}).json()["archived"] is True
    assert site.store.project(made.json()["id"]).archived


def test_annotators_see_their_projects_and_not_how_they_are_controlled(site: Site) -> None:
    (project,) = site.browser(site.annotator).get("/api/projects").json()
    assert project["name"] == "pairs" and "settings" not in project and "control_answer" not in json.dumps(project)
    assert len(site.browser(site.admin).get("/api/projects").json()) == 2


def test_an_archived_project_is_gone_for_annotators(site: Site) -> None:
    annotator = site.browser(site.annotator)
    path = f"/api/projects/{site.project.id}/guideline"
    assert annotator.get(path).status_code == 200
    site.browser(site.admin).put(f"/api/projects/{site.project.id}", {"archived": True})
    assert annotator.get(path).status_code == 404 and annotator.get("/api/projects").json() == []


def test_items_come_one_a_line(site: Site) -> None:
    admin, path = site.browser(site.admin), f"/api/projects/{site.project.id}/items"
    whole = {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "candidates": [{"text": "a", "model": "m", "sampling": {"top_p": 0.9}}, "b"],
        "overlap": 3, "priority": 2.5, "control_answer": {"strength": -3}, "topic": "t", "sensitive": True, "key": "k",
    }  # fmt: skip
    answer = admin.post(path, content=lines({"prompt": "p", "candidates": ["x", "y"]}, whole) + "\n\n")
    assert answer.status_code == 201 and answer.json() == {"added": 2, "already_there": 0}
    assert admin.post(path, content=lines(whole)).json() == {"added": 0, "already_there": 1}
    kept = site.store.items(site.project.id)[-1].new
    assert (
        kept.topic == "t"
        and kept.sensitive
        and kept.control_answer == {"strength": -3}
        and kept.candidates[0].model == "m"
    )
    assert len(admin.get(path).json()) == 32


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ('{"prompt": 1}', "line 2: prompt"),
        ("{", "line 2"),
        ('{"prompt": "p", "candidates": ["x"], "priority": NaN}', "line 2"),
        ('{"prompt": "p", "surplus": 1}', "line 2: surplus"),
        ('{"prompt": "nul\\u0000"}', "line 2: prompt"),
        ('{"candidates": ["x", "y"]}', "line 2: prompt"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_added(site: Site, bad: str, where: str) -> None:
    before = len(site.store.items(site.project.id))
    good = lines({"prompt": "p", "candidates": ["x", "y"]})
    answer = site.browser(site.admin).post(f"/api/projects/{site.project.id}/items", content=f"{good}\n{bad}")
    assert answer.status_code == 422 and str(answer.json()["error"]["where"]).startswith(where)
    assert len(site.store.items(site.project.id)) == before


def test_guidelines_and_members(site: Site) -> None:
    admin = site.browser(site.admin)
    made = admin.post(f"/api/projects/{site.foreign.id}/guidelines", {"text": "# Third"})
    assert made.status_code == 201 and made.json()["version"] == 2 and made.json()["author"] == site.admin.name
    annotator, path = site.browser(site.annotator), f"/api/projects/{site.foreign.id}"
    assert annotator.get(f"{path}/guideline").status_code == 404
    assert admin.put(f"{path}/members", {"person_ids": [site.annotator.id]}).status_code == 200
    assert annotator.get(f"{path}/guideline").json()["text"] == "# Third"
    assert site.browser(site.stranger).get(f"{path}/guideline").status_code == 404
    assert admin.put(f"{path}/members", {"person_ids": [999]}).status_code == 404
    assert [person["id"] for person in admin.get(f"{path}/members").json()] == [site.annotator.id]


def test_endpoints_must_be_known(site: Site) -> None:
    admin = site.browser(site.admin)
    body = {"name": "chat", "settings": {"mode": "chat", "endpoints": ["nowhere"]}}
    assert admin.post("/api/projects", body).json()["error"]["where"] == "settings.endpoints"
    assert (
        admin.post("/api/projects", {"name": "chat", "settings": {"mode": "chat", "endpoints": ["tiny"]}}).status_code
        == 201
    )


@pytest.mark.parametrize("number", ["0", "-1", "99999999999999999999", "1.5", "1e3", "%00", "١"])
def test_numbers_that_are_no_numbers_of_projects(site: Site, number: str) -> None:
    assert site.browser(site.admin).get(f"/api/projects/{number}").status_code in (404, 422)


def test_figures_are_for_those_who_look_on(site: Site) -> None:
    site.browser(site.annotator).post("/api/answers", site.answer(site.lease(site.annotator)))
    for person in (site.viewer, site.admin):
        browser = site.browser(person)
        progress = browser.get(f"/api/projects/{site.project.id}/progress").json()
        assert (progress["answers"], progress["labels_wanted"], progress["labels_given"]) == (1, 60, 1)
        assert progress["by_person"][str(site.annotator.id)]["answers"] == 1
    assert site.browser(site.annotator).get(f"/api/projects/{site.project.id}/progress").status_code == 403


def test_what_is_left_is_what_nobody_has_answered_yet(site: Site) -> None:
    site.browser(site.annotator).post("/api/answers", site.answer(site.lease(site.annotator)))
    assert site.browser(site.annotator).get(f"/api/projects/{site.project.id}/next").json()["left"] == 59


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ({"prompt": "  ", "candidates": ["a", "b"]}, "line 2: prompt"),
        ({"prompt": [{"role": "user", "content": "\n"}], "candidates": ["a", "b"]}, "line 2: prompt"),
        ({"prompt": "q", "candidates": ["same", " same\n"]}, "line 2: candidates"),
    ],
)
def test_nobody_is_asked_about_nothing(site: Site, line: dict[str, object], where: str) -> None:
    before = site.store.progress(site.project.id).items
    good = json.dumps({"prompt": "q", "candidates": ["a", "b"]})
    path = f"/api/projects/{site.project.id}/items"
    answer = site.browser(site.admin).post(path, content=f"{good}\n{json.dumps(line)}")
    assert answer.status_code == 422 and answer.json()["error"]["where"] == where
    assert site.store.progress(site.project.id).items == before


def test_an_upload_may_begin_with_a_byte_order_mark(site: Site) -> None:
    good = json.dumps({"prompt": "q", "candidates": ["a", "b"]}).encode()
    path = f"/api/projects/{site.project.id}/items"
    answer = site.browser(site.admin).post(path, content=b"\xef\xbb\xbf" + good + b"\r\n" + good)
    assert answer.json() == {"added": 2, "already_there": 0}


def test_what_a_model_preferred_comes_with_an_item_and_counts_as_its_answer(site: Site) -> None:
    admin, path = site.browser(site.admin), f"/api/projects/{site.project.id}/items"
    said = {"model": "m", "probability": 0.9, "verdicts": [{"principle": "kind", "forward": 0.95, "backward": 0.85}]}
    item = {"prompt": "p", "candidates": ["x", "y"], "overlap": 1, "key": "judged", "model_preference": said}
    assert admin.post(path, content=lines(item)).json() == {"added": 1, "already_there": 0}
    assert admin.post(path, content=lines(item)).json() == {"added": 0, "already_there": 1}
    (event,) = [one for one in site.store.events(site.project.id) if one.kind is EventKind.MODEL_PREFERENCE]
    assert event.payload == said and site.store.person(event.person_id).name == "imported model m"
    asked = site.browser(site.annotator).get(f"/api/projects/{site.project.id}/next", params={"count": 5}).json()
    assert all(one["prompt"][0]["content"] != "p" for one in asked["items"]), "one label was wanted, and is there"
    for wrong, told in ((1.5, "probability"), ("much", "probability")):
        refused = admin.post(
            path, content=lines({**item, "key": "w", "model_preference": {**said, "probability": wrong}})
        )
        assert refused.status_code == 422 and told in refused.json()["error"]["where"]


def test_what_a_model_preferred_is_told_only_after_an_answer_and_in_the_order_that_was_shown(site: Site) -> None:
    admin, annotator = site.browser(site.admin), site.browser(site.annotator)
    path = f"/api/projects/{site.project.id}"
    rows = [
        {"prompt": f"p{number}", "candidates": ["better", "worse"], "overlap": 2, "priority": 9, "key": f"j{number}",
         "model_preference": {"model": "m", "probability": 0.83}}
        for number in range(6)
    ]  # fmt: skip
    assert admin.post(f"{path}/items", content=lines(*rows)).status_code == 201
    orders, told = set(), 0
    for number in range(8):
        shown = annotator.get(f"{path}/next").json()["items"][0]
        assert "model" not in json.dumps(shown), "blind first"
        texts = [slot["text"] for slot in shown["shown"]]
        body = {"key": f"answer-{number:04d}", "presentation_id": shown["id"], "kind": "pairwise",
                "payload": {"strength": 1}, "time_taken_ms": 900}  # fmt: skip
        replies = [annotator.post("/api/answers", body).json() for _ in range(2)]
        assert replies[0] == replies[1]
        if "better" in texts:
            assert replies[0]["model"] == {"slot": texts.index("better"), "probability": 0.83}
            orders, told = orders | {tuple(texts)}, told + 1
        else:
            assert "model" not in replies[0]
    assert told == 6 and len(orders) == 2
