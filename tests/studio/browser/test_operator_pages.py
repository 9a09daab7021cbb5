"""The operator's pages in a real Chromium, served by a real process over simulated work."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from studio.operator_world import GOOD_SHARE, Clock, build

from assent.feedback.records import PersonRole
from assent.feedback.store.store import FeedbackStore
from assent.recipes.annotation.label_savings import write_curve
from assent.runs.folder import RunDir

SCRIPT = Path(__file__).parent / "operator_process.py"
SOURCE = Path(__file__).parents[3] / "src"
START_S = 60.0
PAGES = [
    "/projects", "/projects/1", "/projects/1/items", "/projects/1/items/3", "/projects/1/guidelines",
    "/projects/1/settings", "/people", "/runs", "/runs/world/ppo", "/arena", "/arena?project=1", "/projects/5",
]  # fmt: skip
STICKING_OUT = """[...document.querySelectorAll('svg.plot text')].filter(text => {
  const box = text.getBoundingClientRect();
  return box.width && (box.left < -1 || box.right > innerWidth + 1);
}).map(text => text.textContent)"""
LISTENS_NOT = """[...document.querySelectorAll('button')].filter(button =>
  button.checkVisibility() && !button.disabled && button.form?.method !== 'get').map(button => button.textContent)"""
EMPTY_CHARTS = """[...document.querySelectorAll('figure.chart')].filter(chart => {
  const drawn = [...chart.querySelectorAll('polyline.line, rect.bar, circle.dot')];
  const shows = one => { const box = one.getBoundingClientRect(); return box.width > 1 && box.height > 1; };
  return chart.getClientRects().length && !drawn.some(shows);
}).map(chart => chart.textContent)"""


@dataclass
class Office:
    """A served studio and its admin's sign-in."""

    url: str
    token: str
    run: RunDir
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def page(self, browser: Any, *, width: int = 1280, theme: str = "light") -> Any:
        """A fresh profile in which the admin is signed in; complaints and requests are kept."""
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        context.add_cookies([{"name": "assent", "value": self.token, "url": self.url}])
        self.complaints.clear()
        self.requests.clear()
        page = context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        return page


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder, clock = tmp_path_factory.mktemp("office"), Clock()
    with FeedbackStore.open(str(folder / "studio.db"), clock=clock) as store:
        build(store, clock, end=time.time())
        admin = store.create_person("Ada", PersonRole.ADMIN, None)
        token = store.sign_in(admin.id, lifetime_s=86_400).token
    run = RunDir.create(folder / "runs" / "world" / "ppo", kind="ppo", settings={"seed": 1}, lineage={}, total=50)
    for step in range(1, 31):
        run.metrics.append(step, {"reward": step / 30, "kl": 0.1 * step, "entropy": 2.0, "length": 20.0, "extra": 1.0})
    for step in (1, 30):
        run.samples.append(step, {"prompt": "<b>why</b>?", "completion": f"\u202e<img src=x> {step}", "reward": 0.5})
    run.set_status("running", step=30)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(folder), str(port)], env=environment)
    url = f"http://localhost:{port}"
    _wait_for(url, process)
    yield Office(url=url, token=token, run=run)
    process.terminate()
    process.wait(timeout=30)
    run.close()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the studio did not start")


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_every_page_opens_without_complaint_and_asks_nobody_else(office, browser, theme):
    page = office.page(browser, theme=theme)
    for path in PAGES:
        page.goto(office.url + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate(EMPTY_CHARTS) == [], path
    assert office.complaints == []
    assert {url.split("/")[2] for url in office.requests} == {office.url.split("/")[2]}
    page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 768, 2560])
def test_nothing_sticks_out_sideways(office, browser, width):
    page = office.page(browser, width=width)
    for path in PAGES:
        page.goto(office.url + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(STICKING_OUT) == [], path
    page.context.close()


def test_a_project_is_made_filled_and_archived(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/projects")
    page.get_by_role("button", name="New project").click()
    page.get_by_label("Name").fill("Made in the browser")
    page.locator("#project-form .mode", has_text="Pairwise").click()
    assert page.get_by_label("Criteria", exact=True).is_visible()
    page.locator("#project-form .mode", has_text="Demonstration").click()
    assert not page.get_by_label("Criteria", exact=True).is_visible()
    page.locator("#project-form .mode", has_text="Pairwise").click()
    page.get_by_role("button", name="Create the project").click()
    page.wait_for_url(re.compile(r"/projects/\d+$"))
    page.get_by_role("button", name="Import items").click()
    page.locator("#import-text").fill(
        '{"prompt": "Why?", "candidates": ["So.", "Thus."]}\n{"prompt": "How?", "candidates": ["a", "b"]}'
    )
    page.get_by_role("button", name="Import", exact=True).click()
    page.locator("[data-text=finished_of]", has_text="of 2\u00a0items finished").wait_for()
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Annotators per item").fill("3")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("#project-saved", has_text="Saved.").wait_for()
    page.reload()
    assert page.get_by_label("Annotators per item").input_value() == "3"
    page.get_by_role("button", name="Archive the project").click()
    page.get_by_role("button", name="Open the project again").wait_for()
    page.goto(f"{office.url}/projects")
    page.locator("summary", has_text="Archived projects").click()
    assert page.get_by_role("link", name="Made in the browser").is_visible()
    assert office.complaints == []
    page.context.close()


def test_sensitive_texts_are_covered_until_asked_for(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/projects/1/items?topic=harm")
    assert page.locator("td.excerpt bdi").count() == 0
    page.locator("td.excerpt a").first.click()
    texts = page.locator("#texts")
    texts.wait_for()
    assert texts.evaluate("texts => texts.inert && texts.className") == "blurred"
    told = page.locator("#texts .told").first
    assert "blur" in told.evaluate("told => getComputedStyle(told).filter")
    page.get_by_role("button", name="Show them").click()
    assert texts.evaluate("texts => texts.inert || texts.className") == ""
    assert told.evaluate("told => getComputedStyle(told).filter") == "none"
    assert office.complaints == []
    page.context.close()


@pytest.mark.parametrize(
    "path", ["/projects", "/projects/1", "/projects/1/settings", "/projects/1/guidelines", "/people", "/account"]
)
def test_before_the_program_of_a_page_has_come_no_button_can_be_pressed(office, browser, path):
    page = office.page(browser)
    page.route("**/static/*.js", lambda route: route.abort())
    page.goto(f"{office.url}{path}")
    page.evaluate("() => { for (const menu of document.querySelectorAll('details')) menu.open = true; }")
    assert page.locator("button:disabled").count() > 0
    assert page.evaluate(LISTENS_NOT) == []
    page.unroute("**/static/*.js")
    page.reload()
    assert page.locator("[data-asleep]").count() == 0
    page.context.close()


def test_a_button_pressed_too_early_waits_for_its_program(office, browser):
    page = office.page(browser)
    held: list[Any] = []
    page.route("**/static/operator_items.js", lambda route: held.append(route))
    page.goto(f"{office.url}/projects/1/items?topic=harm", wait_until="commit")
    page.locator("td.excerpt a").first.wait_for()
    for route in held:
        route.continue_()
    held.clear()
    page.locator("td.excerpt a").first.click()
    show = page.get_by_role("button", name="Show them")
    show.wait_for()
    assert show.is_disabled()
    for route in held:
        route.continue_()
    show.click()
    assert page.locator("#texts").evaluate("texts => texts.inert || texts.className") == ""
    page.context.close()


def test_a_mistake_in_an_import_names_its_line(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/projects/5")
    page.get_by_role("button", name="Import items").click()
    page.locator("#import-text").fill('{"prompt": "fine"}\n{"wrong": 1}')
    page.get_by_role("button", name="Import", exact=True).click()
    page.locator("#import-error", has_text="line 2").wait_for()
    page.context.close()


def test_guidelines_are_previewed_compared_and_published(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/projects/1/guidelines")
    text = page.locator("#guideline-text")
    text.fill(text.input_value() + "\n\n- Prefer **short** answers.\n<script>alert(1)</script>")
    page.get_by_text("Preview").click()
    assert page.locator("#guideline-preview strong").inner_text() == "short"
    assert page.locator("#guideline-preview script").count() == 0
    page.get_by_text("Changes", exact=True).click()
    assert "Prefer" in page.locator("#guideline-changes ins").first.inner_text()
    page.get_by_role("button", name="Publish as version 3").click()
    page.get_by_role("heading", name="Version 3").wait_for()
    page.get_by_role("link", name="Version 1").click()
    page.get_by_role("heading", name="Version 1").wait_for()
    assert office.complaints == []
    page.context.close()


def test_an_invitation_is_made_copied_and_works_once(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/people")
    page.get_by_role("button", name="Invite somebody").click()
    page.locator("#invite-projects label", has_text="Safety pairs").click()
    page.get_by_role("button", name="Make the link").click()
    link = page.locator("#invite-link")
    link.wait_for()
    assert link.input_value().startswith(f"{office.url}/join/")
    page.get_by_role("button", name="Copy").click()
    page.locator("#invite-copied", has_text="opied").wait_for()
    guest = browser.new_context().new_page()
    assert guest.goto(link.input_value()).status == 200
    page.context.close()
    guest.context.close()


def test_a_running_run_grows_before_ones_eyes(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/runs/world/ppo")
    page.locator("#curves figure").first.wait_for()
    titles = page.locator("#curves figcaption strong").all_inner_texts()
    assert titles[:4] == ["Reward", "KL to the reference", "Entropy", "Length"]
    assert page.locator("#left-samples .told").inner_text().endswith("<img src=x> 1")
    assert page.locator("#run img, #run b b").count() == 0
    for step in range(31, 41):
        office.run.metrics.append(step, {"reward": 5.0, "kl": 4.0})
    office.run.set_status("running", step=40)
    page.locator("#run-steps", has_text="40 of 50").wait_for()
    page.locator("#curves .latest", has_text="5").first.wait_for()
    page.locator("#curves .chart-frame").first.focus()
    page.keyboard.press("End")
    assert "reward 40" not in page.locator("#curves .readout").first.inner_text()
    assert "step 40" in page.locator("#curves .readout").first.inner_text()
    assert office.complaints == []
    page.context.close()


def test_what_choosing_saved_is_drawn_as_two_curves_with_their_intervals(office, browser):
    rows = [
        {f"accuracy_{arm}{end}": 0.7 + gain * n / 7 + width for arm, gain in (("random", 0.05), ("chosen", 0.1))
         for end, width in (("", 0.0), ("_low", -0.02), ("_high", 0.02))}
        for n in range(8)
    ]  # fmt: skip
    write_curve(office.run.path.parent / "asking", rows, labels=[50 * (n + 1) for n in range(8)])
    page = office.page(browser)
    page.goto(f"{office.url}/runs/world/asking")
    chart = page.locator("#curves figure.chart").first
    chart.locator("polyline.line").first.wait_for()
    assert (chart.locator("polyline.line").count(), chart.locator("polygon.band").count()) == (2, 2)
    for band in chart.locator("polygon.band").all():
        box = band.bounding_box()
        assert box and box["width"] > 200 and box["height"] > 20
    assert chart.locator("text.label").all_text_contents() == ["at random", "chosen"]
    frame = chart.locator(".chart-frame").bounding_box()
    for label in chart.locator("text.label").all():
        box = label.bounding_box()
        assert box and frame and box["x"] + box["width"] <= frame["x"] + frame["width"]
    chart.locator(".chart-frame").focus()
    page.keyboard.press("End")
    assert "400" in chart.locator(".readout").inner_text()
    assert page.evaluate(STICKING_OUT) == [] and office.complaints == []
    page.context.close()


@pytest.mark.slow
def test_nothing_is_asked_while_nobody_looks(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/projects/1")
    page.wait_for_load_state("networkidle")
    page.evaluate("Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true })")
    page.wait_for_timeout(6_000)
    office.requests.clear()
    page.wait_for_timeout(6_000)
    assert office.requests == []
    page.evaluate("Object.defineProperty(document, 'visibilityState', { value: 'visible', configurable: true })")
    with page.expect_response("**/api/operator/projects/1"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.context.close()


def test_the_arena_shows_who_is_better(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/arena?project=1")
    page.wait_for_load_state("networkidle")
    assert page.locator("figure.dots circle.dot").count() == 4
    shown = page.locator("table.ratings tbody th").all_inner_texts()
    (island,) = page.request.get(f"{office.url}/api/operator/arena?project=1").json()["islands"]
    assert shown == [row["name"] for row in sorted(island["dots"], key=lambda row: -row["value"])]
    assert shown[-1] == "base" and set(shown) == set(GOOD_SHARE)
    page.locator("#arena-project").select_option(label="Blind chat")
    page.wait_for_url(re.compile(r"project=3"))
    assert office.complaints == []
    page.context.close()


def test_an_export_without_rows_says_so_and_one_with_rows_is_a_file(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/projects/1")
    page.locator("summary", has_text="Export").click()
    page.locator("[data-export]", has_text="red-team").click()
    page.locator("#export-error", has_text="Nothing was exported.").wait_for()
    page.locator("summary", has_text="Export").click()
    with page.expect_download() as download:
        page.locator("[data-export]", has_text="rankings").click()
    assert download.value.suggested_filename == "project-1-rankings.jsonl"
    assert page.locator("#export-error").inner_text() == ""
    page.context.close()


def test_withdrawing_an_item_asks_first(office, browser):
    page = office.page(browser)
    page.goto(f"{office.url}/projects/1/items/3")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Withdraw").click()
    page.reload()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Withdraw").click()
    page.locator("#withdraw").wait_for(state="detached")
    page.context.close()
