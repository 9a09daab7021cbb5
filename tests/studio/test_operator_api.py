"""What the operator's pages show is what people did; nobody sees more than is theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from studio.operator_world import GOOD_SHARE, NOW, Clock, Worked, build
from studio.site import Browser, Site
from studio.test_operator_runs import written_run

from assent.feedback.records import EventKind, Person, PersonRole, Project
from assent.feedback.store.store import FeedbackStore
from assent.studio.app import create_app
from assent.studio.operator_views import OperatorViews
from assent.studio.settings import StudioSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """A studio with two days of simulated work behind it."""

    store: FeedbackStore
    worked: Worked
    settings: StudioSettings
    admin: Person
    projects: dict[str, Project]

    def browser(self, name: str = "") -> Browser:
        """Somebody's browser; the admin's unless a name is given."""
        person = self.store.person_named(name) if name else self.admin
        assert person is not None
        sign_in = self.store.sign_in(person.id, lifetime_s=3600)
        app = create_app(self.store, self.settings)
        return Browser(app, f"{self.settings.cookie}={sign_in.token}", sign_in.csrf)

    def standing(self, name: str) -> list[Any]:
        """The standing answers of a project."""
        return [
            event for one in self.store.answered_items(self.projects[name].id, limit=10_000) for event in one.events
        ]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    written_run(folder / "runs", "first/ppo", rows=30)
    clock = Clock()
    with FeedbackStore.open(str(folder / "studio.db"), clock=clock) as store:
        worked = build(store, clock)
        admin = store.create_person("Ada", PersonRole.ADMIN, None)
        yield Office(
            store=store,
            worked=worked,
            settings=StudioSettings(runs=folder / "runs"),
            admin=admin,
            projects={project.name: project for project in store.projects()},
        )


def test_the_overview_counts_what_happened(office: Office) -> None:
    project = office.projects["Helpfulness, second round"]
    views = OperatorViews(office.store, office.settings, clock=lambda: NOW)
    view, events = views.overview(project), office.standing(project.name)
    given = [event for event in events if event.kind is EventKind.RANKING]
    assert view["text"]["answers"] == str(len(given))
    assert sum(answers for _, answers in view["hours"]) == len(given)  # as the figure beside the chart counts
    by_person = {row[0]: row for row in view["rows"]["people"]}
    assert set(by_person) == {"careful", "careless", "likes_length", "likes_flattery"}
    for name, row in by_person.items():
        person = office.store.person_named(name)
        assert person is not None
        assert row[1] == str(sum(event.person_id == person.id for event in given))
    skipped = sum(event.kind is EventKind.SKIP for event in events)
    told = [int(value) for name, value in view["facts"]["refusals"] if name.startswith("skipped")]
    assert sum(told) == skipped


def test_agreement_control_items_and_cost_are_there_where_they_can_be(office: Office) -> None:
    views = OperatorViews(office.store, office.settings, clock=lambda: NOW)
    view = views.overview(office.projects["Helpfulness, second round"])
    ranked, measures = view["text"], dict(view["facts"]["agreement"])
    for name in ("Krippendorff's α", "Fleiss' κ", next(name for name in measures if name.startswith("Cohen's κ"))):
        assert re.fullmatch(r"0\.\d\d \(\S+( to |–)\S+\), \d+\u00a0items", measures[name])
    assert all(re.fullmatch(r"\d+\u00a0% \(\d+–\d+\u00a0%\)", row[8]) for row in view["rows"]["people"])
    assert re.fullmatch(r"\d+\u00a0%", ranked["agreement"])
    assert re.fullmatch(r"\d+\u00a0%", ranked["control"])
    assert re.fullmatch(r"0\.\d\d", ranked["cost"])
    assert "random arm" in ranked["saved"]
    chatted = views.overview(office.projects["Blind chat"])["text"]
    assert (chatted["agreement"], chatted["agreement_note"]) == ("–", "not defined for chat and compare")
    empty = views.overview(office.projects["Demonstrations, spring"])["text"]
    assert empty["outlook"] == "There are no items yet. Import some."


def test_the_cost_is_that_of_the_time_taken(office: Office) -> None:
    name = "Helpfulness, second round"
    events = office.standing(name)  # nobody has taken anything back
    hours = sum(event.time_taken_ms for event in events) / 3_600_000
    control = {
        one.item.id
        for one in office.store.answered_items(office.projects[name].id)
        if one.item.new.control_answer is not None
    }
    useful = [e for e in events if e.kind is EventKind.RANKING and not e.repeat and e.item_id not in control]
    view = OperatorViews(office.store, office.settings, clock=lambda: NOW).overview(office.projects[name])
    assert float(view["text"]["cost"]) == pytest.approx(24.0 * hours / len(useful), abs=0.005)


@pytest.mark.parametrize(
    "path",
    [
        "/projects", "/projects/1", "/projects/1/items", "/projects/1/items/1", "/projects/1/guidelines",
        "/projects/1/guidelines?version=1", "/projects/1/settings", "/people", "/runs", "/runs/first/ppo", "/arena",
        "/arena?project=2", "/projects/3", "/projects/4/settings", "/projects/5",
    ],
)  # fmt: skip
def test_every_page_opens_without_inline_code(office: Office, path: str) -> None:
    answer = office.browser().get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert " style=" not in answer.text
    assert not re.search(r"\son\w+=", answer.text)
    assert re.findall(r"<script(?![^>]* src=\"/static/)", answer.text) == []


@pytest.mark.parametrize("address", ["projects", "projects/1", "projects/3", "arena", "arena?project=1", "runs"])
def test_every_live_view_is_json(office: Office, address: str) -> None:
    answer = office.browser().get(f"/api/operator/{address}")
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json(), dict)


def test_a_viewer_sees_their_projects_and_cannot_change_them(office: Office) -> None:
    visitor = office.browser("visitor")
    assert visitor.get("/projects/1").status_code == 404
    assert visitor.get("/api/operator/arena?project=1").status_code == 404
    person = office.store.person_named("visitor")
    assert person is not None
    office.store.set_members(1, [*(one.id for one in office.store.members(1)), person.id])
    visitor = office.browser("visitor")
    page = visitor.get("/projects/1").text
    assert "Import items" not in page
    assert "/settings" not in page
    assert "Publish" not in visitor.get("/projects/1/guidelines").text
    assert visitor.get("/projects/1/settings").status_code == 403
    assert visitor.get("/people").status_code == 403
    assert visitor.get("/api/projects/1/export").status_code == 403
    assert visitor.post("/api/operator/projects/1/withdraw", {"item_ids": [1]}).status_code == 403
    assert "Safety pairs" not in visitor.get("/projects").text


def test_a_annotator_sees_none_of_it(office: Office) -> None:
    careful = office.browser("careful")
    for path in ("/projects", "/projects/1", "/runs", "/arena", "/api/operator/projects/1", "/api/operator/runs"):
        assert careful.get(path).status_code == 403, path


def test_items_are_found_by_what_they_are(office: Office) -> None:
    admin = office.browser()

    def shown(query: str) -> set[int]:
        page = admin.get(f"/projects/1/items?{query}").text
        return {int(number) for number in re.findall(r'/projects/1/items/(\d+)">\d+<', page)}

    whole = {item.id for item in office.store.items(1)}
    judged = {one.item.id: one for one in office.store.answered_items(1, limit=1000)}
    assert shown("") == whole
    assert shown("state=control") == {item.id for item in office.store.items(1) if item.new.control_answer is not None}
    assert shown("state=untouched") == whole - judged.keys()
    flagged = {id_ for id_, one in judged.items() if any(e.kind is EventKind.FLAG for e in one.events)}
    assert shown("state=flagged") == flagged
    assert shown("topic=HARM") == {item.id for item in office.store.items(1) if item.new.topic == "harm"}
    assert shown("serves=random&topic=harm") <= shown("serves=random")
    some = next(iter(office.store.items(1, limit=1)))
    assert some.id in shown(f"text={some.new.candidates[0].text[:12].upper()}")
    assert shown("text=no+such+words+anywhere") == set()


def test_an_item_of_another_project_is_not_shown(office: Office) -> None:
    other = office.store.items(2, limit=1)[0].id
    assert office.browser().get(f"/projects/1/items/{other}").status_code == 404


def test_withdrawing_takes_an_item_out_of_the_queue(office: Office) -> None:
    item = office.store.items(2)[-1]
    answer = office.browser().post("/api/operator/projects/2/withdraw", {"item_ids": [item.id]})
    assert (answer.status_code, answer.json()) == (200, {"withdrawn": 1})
    assert office.store.item(item.id).withdrawn
    assert office.browser().post("/api/operator/projects/99/withdraw", {"item_ids": [1]}).status_code == 404


@pytest.mark.parametrize("name", ["pairs", "trl", "rankings", "events", "label-studio"])
def test_exports_are_files_of_rows(office: Office, name: str) -> None:
    answer = office.browser().get(f"/api/projects/1/export?format={name}")
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert len(rows) > 5


def test_csv_and_parquet_come_too_and_leave_nothing_behind(office: Office, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert office.browser().get("/api/projects/1/export?format=trl&file=csv").text.startswith('"prompt",')
    assert office.browser().get("/api/projects/1/export?file=parquet").content[:4] == b"PAR1"
    assert office.browser().get("/api/projects/1/export?format=nonsense").status_code == 422
    assert office.browser().get("/api/projects/5/export").status_code == 409
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_told_piece_by_piece(office: Office) -> None:
    admin = office.browser()
    first = admin.get("/api/operator/run/metrics?run=first/ppo").json()
    assert [row["step"] for row in first["rows"]] == list(range(1, 31))
    again = admin.get("/api/operator/run/metrics", params={"run": "first/ppo", "cursor": first["cursor"]}).json()
    assert (again["rows"], again["fresh"]) == ([], False)
    assert admin.get("/api/operator/run?run=first/ppo").json()["state"] == "finished"
    assert admin.get("/api/operator/run/samples?run=first/ppo").json() == {"samples": []}
    for name in ("first", "../office", "first/ppo/../ppo", "/etc", "%2e%2e/x"):
        assert admin.get("/api/operator/run", params={"run": name}).status_code == 404, name
    assert admin.get("/runs/first/nothing").status_code == 404


def test_without_a_folder_of_runs_the_page_says_how_to_get_one(site: Site) -> None:
    admin = site.browser(site.admin)
    assert "--runs FOLDER" in admin.get("/runs").text
    assert admin.get("/api/operator/run?run=x").status_code == 404
    assert admin.get("/api/operator/runs").json() == {"runs": []}


def test_the_arena_ranks_the_models_as_they_are(office: Office) -> None:
    view = office.browser().get("/api/operator/arena?project=1").json()
    assert view["comparable"]
    rows = {row["name"]: row for row in view["islands"][0]["dots"]}
    assert list(rows)[-1] == "base" and rows["base"]["high"] < rows["ppo-v2"]["low"]
    better = sorted(rows, key=GOOD_SHARE.__getitem__)
    for worse, best in combinations(better, 2):
        assert rows[worse]["low"] < rows[best]["high"], "no interval contradicts how the models were made"
    assert view["version"] == office.browser().get("/api/operator/arena?project=1").json()["version"]


def test_hostile_names_and_texts_stay_text(office: Office) -> None:
    store, nasty = office.store, '"><script>alert(1)</script>'
    project = store.create_project(f"x {nasty}"[:80], replace(office.projects["Blind chat"].settings))
    store.add_guideline(project.id, f"# {nasty}", nasty)
    for path in (f"/projects/{project.id}", f"/projects/{project.id}/guidelines", "/projects", "/people", "/arena"):
        assert "<script>alert" not in office.browser().get(path).text
