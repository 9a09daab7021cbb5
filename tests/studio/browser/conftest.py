"""One Chromium per module; pages in which somebody is signed in and that keep what they complained about."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from studio.browser.serving import Studio

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that lies here opens a browser."""
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield running
        running.close()


@dataclass
class Seat:
    """Somebody at the annotator's page."""

    page: Any
    studio: Studio
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def press(self, *keys: str) -> None:
        """Keys, one after the other; nobody types before there is an item."""
        for key in keys:
            if key.endswith("Enter"):
                self.page.keyboard.press(key)
                self.page.locator("#bar:not([hidden]), #item .pause h2").wait_for()
            else:
                self.page.keyboard.press(key)

    def open(self, name: str) -> None:
        """A project's page with its first item."""
        self.page.goto(f"{self.studio.url}/label/{self.studio.projects[name].id}")
        self.page.wait_for_selector("#bar:not([hidden])")

    def heading(self) -> str:
        """The prompt on the screen."""
        return self.page.locator(".prompt .said").inner_text()

    def wait_saved(self, count: int) -> None:
        """Until the page says that so many answers of this visit are saved and none waits."""
        self.page.locator("#save-words", has_text=re.compile(rf"^Saved · {count}\b")).wait_for(state="attached")

    def wait_heading(self, prompt: str) -> None:
        """Until that prompt is on the screen."""
        self.page.locator(".prompt .said", has_text=prompt).wait_for()


@pytest.fixture
def seat(browser: Any) -> Iterator[Any]:
    """seat(studio, "Ana", width=..., theme=...): a fresh browser profile in which that person is signed in."""
    contexts = []

    def sit(studio: Studio, name: str = "Ana", *, width: int = 1280, height: int = 900, theme: str = "light") -> Seat:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        contexts.append(context)
        return seated(context, studio, name)

    yield sit
    for context in contexts:
        context.close()


def seated(context: Any, studio: Studio, name: str) -> Seat:
    """A page of `context` with `name` signed in."""
    context.add_cookies([{"name": "assent", "value": studio.tokens[name], "url": studio.url}])
    taken = Seat(page=context.new_page(), studio=studio)
    taken.page.on("console", lambda message: taken.complaints.append(message.text))
    taken.page.on("pageerror", lambda error: taken.complaints.append(str(error)))
    taken.page.on("dialog", lambda dialog: (taken.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    taken.page.on("request", lambda request: taken.requests.append(request.url))
    return taken
