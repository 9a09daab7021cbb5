"""One's own password, changed on a page: against the present one, with words for every mistake, axe clean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from studio.browser.serving import Studio, items, settings

from assent.feedback.records import TaskMode

AXE = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "assent" / "axe-4.14.1.min.js"
OLD, NEW = "a long password", "a longer password still"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Any:
    one = Studio(tmp_path_factory.mktemp("account"), "Ana", "Ben")
    one.add_project("pairs", settings(TaskMode.PAIRWISE), items(3))
    one.start()
    yield one
    one.stop()


def _fill(page: Any, old: str, new: str, again: str) -> None:
    for name, text in (("old", old), ("new", new), ("again", again)):
        page.locator(f"#{name}").fill(text)
    page.keyboard.press("Enter")


def test_a_annotator_changes_the_own_password_and_other_browsers_are_signed_out(studio: Studio, seat: Any) -> None:
    ana, elsewhere = seat(studio), seat(studio)
    elsewhere.open("pairs")
    ana.open("pairs")
    ana.page.locator("#account summary").click()
    ana.page.get_by_role("link", name="Change password").click()
    ana.page.get_by_role("button", name="Change it", disabled=False).wait_for()
    _fill(ana.page, OLD, NEW, "something else here")
    ana.page.locator("#words", has_text="differ").wait_for()
    _fill(ana.page, "not my password", NEW, NEW)
    ana.page.locator("#words", has_text="current password is wrong").wait_for()
    _fill(ana.page, OLD, NEW, NEW)
    ana.page.locator("#words", has_text="is changed").wait_for()
    assert ana.page.locator("#old").input_value() == ""
    with studio.reading() as store:
        assert store.check_password("Ana", NEW) is not None and store.check_password("Ana", OLD) is None
    ana.open("pairs")
    assert "Question" in ana.heading(), "this browser stays signed in"
    elsewhere.page.goto(f"{studio.url}/label")
    elsewhere.page.get_by_role("heading", name="Sign in").wait_for()
    assert [words for words in ana.complaints if "401" not in words] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(studio: Studio, seat: Any, theme: str) -> None:
    if not AXE.is_file():
        pytest.skip(f"{AXE.name} is not in the cache; run scripts/axe")
    ben = seat(studio, "Ben", theme=theme, width=320)
    ben.page.goto(f"{studio.url}/account")
    ben.page.locator("#account summary").click()
    ben.page.evaluate(AXE.read_text())
    found = ben.page.evaluate("axe.run().then(result => result.violations)")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert ben.page.evaluate("document.documentElement.scrollWidth") <= 320
