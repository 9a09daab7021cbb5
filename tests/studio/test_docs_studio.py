"""The page about the studio names every setting with its default, and no route that does not exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

from studio.site import Site

from assent.feedback.records import ProjectSettings, TaskMode
from assent.studio.item_schemas import ItemIn
from assent.studio.security import guarded_routes
from assent.studio.settings import StudioSettings

PAGE = (Path(__file__).parents[2] / "docs" / "studio.md").read_text(encoding="utf-8")


def shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    return json.dumps(list(value)) if isinstance(value, tuple) else str(value)


def test_the_table_of_settings_is_the_settings() -> None:
    table = PAGE.split("## Settings")[1].split("\n## ")[0]
    written = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", table, flags=re.MULTILINE))
    assert written == {name: shown(field.default) for name, field in StudioSettings.model_fields.items()}


def test_every_route_that_is_named_exists(site: Site) -> None:
    named = {path.replace("ID", "{project_id}") for path in re.findall(r"(/api/[\w/.-]+)", PAGE)}
    known = {route.path for route in guarded_routes(site.app)}
    assert named and named <= known


def test_the_example_of_an_item_is_one() -> None:
    (line,) = re.findall(r"```json\n(.*?)\n```", PAGE)
    assert ItemIn.model_validate_json(line).item().candidates[1].model == "run-7"


def test_the_known_answers_of_the_table_are_taken(site: Site) -> None:
    rows = re.findall(r"^\| (ranking|pairwise|rating|good or bad) \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 4
    for mode, told in rows:
        project = site.store.create_project(mode, ProjectSettings(mode=TaskMode(mode.replace(" or ", "_"))))
        for known in map(json.loads, re.findall(r"`(\{.*?\})`", told)):
            count = len(known.get("ranks") or (1, 2))
            line = {"prompt": "q", "candidates": [f"c{place}" for place in range(count)], "control_answer": known}
            path = f"/api/projects/{project.id}/items"
            answer = site.browser(site.admin).post(path, content=json.dumps(line))
            assert answer.status_code == 201, (mode, known, answer.text)
