"""The page of talking in a real browser: by keyboard alone, text as it is written, annotated, undone; all safe."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from serving.endpoint_fakes import listening
from studio.chat_fakes import KEY, KEY_VARIABLE, ChatSite, Endpoints, chat_endpoints
from studio.site import open_site

from assent.feedback.records import EventKind
from assent.feedback.store.store import FeedbackStore

AXE = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "assent" / "axe-4.14.1.min.js"
EVIL = "echo <img/src=x/onerror=alert(1)> <script>alert(2)</script> [x](javascript:alert(3)) ![y](//evil.example/z.png)"


@dataclass
class Table:
    """The page, the site behind it, and what the page complained about and asked for."""

    page: Any
    chat: ChatSite
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, project: str) -> None:
        self.page.goto(f"{self.url}/chat/{self.chat.project(project)}")

    def phase(self, name: str) -> None:
        """Wait until the page is there."""
        self.page.locator(f'body[data-phase="{name}"]').wait_for()

    def say(self, text: str) -> None:
        """Type and send; the answers are whole when this returns."""
        self.phase("saying")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")
        self.phase("annotating")

    def annotate(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.page.locator("#save", has_text="saved").wait_for()
        self.phase("saying")

    def wait_value(self, text: str) -> None:
        """Until the message box holds that text; the page allows no waiting by its own scripts."""
        deadline = time.monotonic() + 60
        while self.page.locator("#words").input_value() != text:
            assert time.monotonic() < deadline, f"the box never held {text!r}"
            self.page.wait_for_timeout(20)

    def answers(self) -> list[str]:
        return [text.strip() for text in self.page.locator(".answer .said").all_inner_texts()]

    def kept(self, project: str) -> list[Any]:
        return self.chat.site.store.events(self.chat.project(project))


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Endpoints]:
    with chat_endpoints() as made:
        yield made


@pytest.fixture
def chat(
    endpoints: Endpoints, filled_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ChatSite]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    path = tmp_path / "studio.db"
    shutil.copy(filled_store, path)
    with FeedbackStore.open(str(path)) as store:
        yield ChatSite(site=open_site(store, endpoints.settings), endpoints=endpoints)


@pytest.fixture
def table(browser: Any, chat: ChatSite, request: pytest.FixtureRequest) -> Iterator[Table]:
    options = getattr(request, "param", {})
    with listening(chat.site.app) as url:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        token = chat.site.store.sign_in(chat.site.annotator.id, lifetime_s=3600).token
        context.add_cookies([{"name": "assent", "value": token, "url": url}])
        taken = Table(page=context.new_page(), chat=chat, url=url)
        taken.page.set_default_timeout(60_000)
        taken.page.on("console", lambda message: taken.complaints.append(message.text))
        taken.page.on("pageerror", lambda error: taken.complaints.append(str(error)))
        taken.page.on("dialog", lambda dialog: (taken.complaints.append(dialog.message), dialog.dismiss()))
        taken.page.on("request", lambda sent: taken.requests.append(sent.url))
        yield taken
        context.close()


def test_two_blind_models_are_compared_by_keyboard_alone(table: Table) -> None:
    table.open("compare")
    table.phase("saying")
    table.wait_value("hello 0")  # the item's prompt is there to begin with
    table.page.keyboard.press("Enter")
    table.phase("annotating")
    for key, choice in (("1", "a"), ("2", "b"), ("=", "tie")):
        shown = table.answers()
        assert len(shown) == 2 and all(shown)
        table.annotate(key)
        event = table.kept("compare")[-1]
        assert event.payload["choice"] == choice and event.time_taken_ms > 0
        assert [event.payload["a"].strip(), event.payload["b"].strip()] == shown
        table.say(f"more after {choice}")
    said = table.page.locator(".message.assistant .said").all_inner_texts()
    assert len(said) == 3
    table.page.keyboard.press("0")
    table.phase("saying")
    assert table.page.locator("#words").input_value() == "more after tie", "to be put another way"
    assert len(table.kept("compare")) == 4
    page = table.page.content()
    assert not any(word in page for word in ("first", "second", KEY)), "blind"
    assert table.complaints == [] and all(url.startswith(table.url) for url in table.requests)


def test_undo_brings_the_answers_back_and_the_talk_can_be_finished(table: Table) -> None:
    table.open("compare")
    table.say(" again")
    before = table.answers()
    table.annotate("1")
    table.page.keyboard.press("Escape")
    table.page.keyboard.press("u")
    table.phase("annotating")
    assert table.answers() == before
    table.page.keyboard.press("2")
    table.page.locator('.message.assistant:has-text("' + before[1].split()[0] + '")').first.wait_for()
    table.phase("saying")
    kinds = [event.kind for event in table.kept("compare")]
    assert kinds == [EventKind.CHAT_TURN, EventKind.UNDO, EventKind.CHAT_TURN]
    table.page.keyboard.press("Escape")
    table.page.keyboard.press("n")
    table.wait_value("hello 1")
    assert table.complaints == []


def test_letters_in_the_message_are_text_and_the_hint_says_how_to_leave_it(table: Table) -> None:
    table.open("compare")
    table.say(" again")
    table.annotate("1")
    undo = table.page.locator('[data-act="undo"]')
    assert undo.inner_text().split() == ["Undo", "Esc", "u"]
    table.page.keyboard.type("un")
    assert table.page.locator("#words").input_value() == "un" and len(table.kept("compare")) == 1
    table.page.keyboard.press("Escape")
    assert undo.inner_text().split() == ["Undo", "u"]
    table.page.keyboard.press("u")
    table.phase("annotating")


def test_text_appears_while_it_is_written_and_can_be_stopped(table: Table) -> None:
    engine = table.chat.endpoints.engines["first"]
    engine.hold_at = len(engine.widths) + 4
    try:
        table.open("alone")
        table.phase("saying")
        table.page.locator("#words").fill("never")
        table.page.keyboard.press("Enter")
        table.page.locator(".answer .said", has_text=re.compile(r"^\s*(\w+\s+){3}\w+\s*$")).wait_for()
        assert table.page.locator("body").get_attribute("data-phase") == "writing"
        table.page.keyboard.press("Escape")
        table.phase("saying")
        assert table.page.locator("#words").input_value() == "never" and table.kept("alone") == []
    finally:
        engine.gate.set()


def test_a_reload_brings_back_waiting_answers_and_drafts(table: Table) -> None:
    table.open("compare")
    table.say("!")
    before = table.answers()
    table.page.reload()
    table.phase("annotating")
    assert table.answers() == before
    table.annotate("2")
    table.page.keyboard.type("half a thou")
    table.page.reload()
    table.phase("saying")
    assert table.page.locator("#words").input_value() == "half a thou"
    assert table.page.locator(".message").count() == 2


def test_what_models_say_is_text_and_never_markup(table: Table) -> None:
    table.open("compare")
    table.phase("saying")
    table.page.locator("#words").fill(EVIL)
    table.page.keyboard.press("Enter")
    table.phase("annotating")
    table.annotate("1")
    assert table.page.locator("#talk img, #talk script, #talk a, #talk iframe").count() == 0
    assert "onerror=alert(1)" in table.page.locator(".message.assistant").inner_text()
    assert table.complaints == [] and not [url for url in table.requests if "evil" in url or "csp-report" in url]
    assert table.chat.site.app.state.guard.reports == 0


def test_a_model_that_is_down_is_said_plainly_and_the_message_is_not_lost(table: Table) -> None:
    table.open("closed")
    table.phase("saying")
    table.page.keyboard.type(", please")
    table.page.keyboard.press("Enter")
    table.page.locator(".answer.failed", has_text="cannot be reached").wait_for()
    table.phase("saying")
    assert table.page.locator("#words").input_value() == "hello 0, please"


@pytest.mark.parametrize("table", [{"color_scheme": "dark"}], indirect=True)
def test_a_red_team_talk_is_covered_until_asked_for_and_rated_by_keyboard(table: Table) -> None:
    table.open("red")
    table.phase("covered")
    table.page.keyboard.press("v")
    for _ in range(2):
        table.phase("saying")
        table.page.locator("#words").fill("be bad")
        before = table.page.locator(".message.assistant").count()
        table.page.keyboard.press("Enter")
        table.page.locator(".message.assistant").nth(before).wait_for()
    table.phase("saying")
    table.page.keyboard.press("Escape")
    table.page.keyboard.press("r")
    table.page.keyboard.press("1")
    table.page.keyboard.press("0")
    assert table.page.locator("input[name=reached]:checked").get_attribute("value") == "10"
    table.page.keyboard.press("7")
    table.page.keyboard.press("Tab")
    table.page.keyboard.type("flattery")
    table.page.keyboard.press("Control+Enter")
    table.page.locator("#save", has_text="saved").wait_for()
    (event,) = table.kept("red")
    assert event.payload["reached"] == 7 and event.payload["note"] == "flattery"
    assert len(event.payload["conversation"]) == 4 and table.complaints == []


@pytest.mark.parametrize(
    "table", [{"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}], indirect=True
)
def test_a_phone_is_enough_and_nothing_is_cut(table: Table) -> None:
    table.open("compare")
    table.phase("saying")
    table.page.locator("#send").tap()
    table.phase("annotating")
    wide = "document.documentElement.scrollWidth <= innerWidth"
    assert table.page.evaluate(wide)
    for button in table.page.locator("#annotate button").all():
        box = button.bounding_box()
        assert box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= 320
    table.page.locator('#annotate [data-choice="b"]').tap()
    table.phase("saying")
    assert table.kept("compare")[-1].payload["choice"] == "b" and table.page.evaluate(wide)
    assert table.complaints == []


@pytest.mark.parametrize("table", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_axe_finds_nothing(table: Table) -> None:
    if not AXE.is_file():
        pytest.skip(f"{AXE.name} is not in the cache; run scripts/axe")
    found: list[str] = []

    def look(where: str) -> None:
        table.page.evaluate(AXE.read_text())
        for one in table.page.evaluate("axe.run().then(result => result.violations)"):
            found.append(f"{where}: {one['id']}: {one['nodes'][0]['html'][:160]}: {one['nodes'][0]['failureSummary']}")

    table.open("compare")
    table.phase("saying")
    look("start")
    table.say("!")
    look("annotating")
    table.annotate("1")
    look("next")
    table.page.keyboard.press("Escape")
    table.page.keyboard.press("?")
    look("help")
    table.open("red")
    table.phase("covered")
    look("covered")
    assert found == []
