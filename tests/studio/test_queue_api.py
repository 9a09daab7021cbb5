"""The order of a queue over HTTP: items whole, new priorities, and a reward model's word that asks people again."""

from __future__ import annotations

import json

from studio.site import Browser, Site, key


def project_of(admin: Browser, **settings: object) -> int:
    made = admin.post("/api/projects", {"name": "asked", "settings": {"mode": "pairwise", **settings}})
    return int(made.json()["id"])


def add(admin: Browser, project: int, count: int, **fields: object) -> None:
    lines = [{"prompt": f"p{n}", "candidates": ["a", "b"], "key": f"k{n}", **fields} for n in range(count)]
    answer = admin.post(f"/api/projects/{project}/items", content="\n".join(map(json.dumps, lines)))
    assert answer.status_code == 201, answer.text


def say(site: Site, project: int, first: bool) -> None:
    """The annotator's next item, answered: whether candidate "a" is better."""
    annotator = site.browser(site.annotator)
    (item,) = annotator.get(f"/api/projects/{project}/next").json()["items"]
    strength = -2 if first == (item["shown"][0]["text"] == "a") else 2
    body = {"key": key(), "presentation_id": item["id"], "kind": "pairwise", "payload": {"strength": strength}}
    assert annotator.post("/api/answers", body).status_code == 201


def test_new_priorities_change_what_comes_next(site: Site) -> None:
    admin = site.browser(site.admin)
    project = project_of(admin)
    add(admin, project, 3)
    admin.put(f"/api/projects/{project}/members", {"person_ids": [site.annotator.id]})
    items = admin.get(f"/api/projects/{project}/queue", params={"limit": 2}).json()
    assert [item["key"] for item in items["items"]] == ["k0", "k1"] and items["last"] == items["items"][1]["id"]
    rest = admin.get(f"/api/projects/{project}/queue", params={"after": items["last"]}).json()
    assert [item["candidates"][1]["text"] for item in rest["items"]] == ["b"] and rest["last"] is None
    order = {item["id"]: float(place) for place, item in enumerate([*items["items"], *rest["items"]])}
    assert admin.put(f"/api/projects/{project}/priorities", {"priority": order}).json() == {"changed": 3}
    shown = site.browser(site.annotator).get(f"/api/projects/{project}/next", params={"count": 3}).json()["items"]
    assert [item["prompt"][0]["content"] for item in shown] == ["p2", "p1", "p0"]
    other = admin.put(f"/api/projects/{site.project.id}/priorities", {"priority": order})
    assert (
        other.status_code == 404
        and site.browser(site.annotator).get(f"/api/projects/{project}/queue").status_code == 403
    )


def test_who_contradicts_what_was_predicted_is_asked_about_and_the_operator_sees_how_many(site: Site) -> None:
    admin = site.browser(site.admin)
    project = project_of(admin, overlap=1, adaptive_overlap=3)
    add(admin, project, 2, predicted=[1.5, -1.5])
    admin.put(f"/api/projects/{project}/members", {"person_ids": [site.annotator.id]})
    say(site, project, True)
    say(site, project, False)
    progress = admin.get(f"/api/projects/{project}/progress").json()
    assert (progress["finished"], progress["labels_wanted"]) == (1, 3)
    outlook = admin.get(f"/api/operator/projects/{project}").json()["text"]["outlook"]
    assert "Items get 1 to 3 labels; 1\u00a0label added" in outlook
    first, second = (item["id"] for item in admin.get(f"/api/projects/{project}/queue").json()["items"])
    turned = {"predicted": {first: [-1.5, 1.5], second: [-1.5, 1.5]}}
    assert admin.put(f"/api/projects/{project}/predictions", turned).json() == {"changed": 2}
    queue = admin.get(f"/api/projects/{project}/queue").json()["items"]
    assert [item["overlap"] for item in queue] == [2, 1] and queue[0]["predicted"] == [-1.5, 1.5]


def test_predictions_fit_their_items(site: Site) -> None:
    admin = site.browser(site.admin)
    project = project_of(admin)
    add(admin, project, 1)
    (item,) = admin.get(f"/api/projects/{project}/queue").json()["items"]
    path = f"/api/projects/{project}/predictions"
    assert admin.put(path, {"predicted": {item["id"]: [1.0]}}).status_code == 422
    assert admin.put(path, {"predicted": {item["id"] + 1: [1.0, 2.0]}}).status_code == 404
    assert admin.put(path, {"predicted": {"x": [1.0, 2.0]}}).status_code == 422
    line = json.dumps({"prompt": "p", "candidates": ["a", "b"], "predicted": [1.0]})
    assert admin.post(f"/api/projects/{project}/items", content=line).status_code == 422
