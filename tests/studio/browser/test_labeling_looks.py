"""Every mode on every width, light and dark, for screen readers, right to left, covered where it may hurt."""

import os
from pathlib import Path

import pytest
from studio.browser.serving import Studio, items, settings

from assent.feedback.records import Candidate, NewItem, TaskMode
from assent.types import Conversation

AXE = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "assent" / "axe-4.14.1.min.js"
MODES = {"ranking": 9, "pairwise": 2, "rating": 3, "good_bad": 2, "demonstration": 0}
ARABIC = "المد والجزر بسبب **جاذبية القمر**.\n\n- أولا\n- ثانيا"
LONG = (
    "An unbroken_"
    + "word" * 120
    + " and https://example.org/"
    + "a/" * 200
    + "\n\n```\n"
    + "x = 1; " * 60
    + "\n```\n\n"
    + "Words. " * 900
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    made = Studio(tmp_path_factory.mktemp("looks"))
    for mode, answers in MODES.items():
        wide = Candidate(text=LONG)
        first = [NewItem(prompt=Conversation.of_user(LONG), candidates=(wide,) * answers, priority=1.0)]
        made.add_project(mode, settings(TaskMode(mode)), first + items(3, answers), "# Rules\n\n## One\n\n" + LONG)
    made.add_project("plain pairs", settings(TaskMode.PAIRWISE, criteria_share=1.0), items(3), "# Rules\n\n1. Be fair.")
    arabic = NewItem(
        prompt=Conversation.of_user("ما سبب المد؟"), candidates=(Candidate(text=ARABIC), Candidate(text="Short."))
    )
    made.add_project("arabic", settings(TaskMode.PAIRWISE), [arabic])
    made.add_project("covered", settings(TaskMode.PAIRWISE), items(2, sensitive=True, topic="war"))
    made.start()
    yield made
    made.stop()


def sideways(page) -> list[str]:
    """What sticks out of the page to the right."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.className || one.tagName)"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 3840])
def test_nothing_sticks_out_sideways(studio, seat, width):
    ana = seat(studio, width=width, height=2160 if width > 2000 else 800)
    for mode in MODES:
        ana.open(mode)
        assert sideways(ana.page) == []
        for keys in (["d"], ["d", "t"], ["x", "t"], ["e"], ["Escape", "w"], ["Escape", "i"]):
            ana.press(*keys)
            assert sideways(ana.page) == [], keys
        ana.press("Escape", "?")
        assert sideways(ana.page) == []
        ana.press("Escape", "f")
        assert sideways(ana.page) == []
    assert ana.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(studio, seat, theme):
    if not AXE.is_file():
        pytest.skip(f"{AXE.name} is not in the cache; run scripts/axe")
    ana = seat(studio, theme=theme, width=1280)
    found: list[str] = []

    def look(where: str) -> None:
        ana.page.evaluate("Promise.allSettled(document.getAnimations().map(one => one.finished))")
        ana.page.evaluate(AXE.read_text())
        for one in ana.page.evaluate("axe.run().then(result => result.violations)"):
            found.append(
                f"{where}: {one['id']}: {one['nodes'][0]['html'][:160]}: {one['nodes'][0]['failureSummary'][:300]}"
            )

    for mode in (*MODES, "plain pairs", "covered"):
        ana.open(mode)
        look(mode)
    ana.open("plain pairs")
    for name, keys in {
        "chosen": ["1"],
        "edit": ["e"],
        "own": ["Escape", "w"],
        "flag": ["Escape", "f"],
        "help": ["Escape", "?"],
    }.items():
        ana.press(*keys)
        look(name)
    ana.press("Escape")
    ana.page.locator("#open-settings").click()
    look("settings")
    ana.press("Escape")
    ana.page.locator("#account summary").click()
    look("account")
    for path in ("/label",):
        ana.page.goto(studio.url + path)
        look(path)
    ana.page.context.clear_cookies()
    ana.page.goto(f"{studio.url}/sign-in")
    look("sign-in")
    assert found == []


def test_right_to_left_texts_run_right_to_left(studio, seat):
    ana = seat(studio)
    ana.open("arabic")
    sides = ana.page.evaluate(
        """() => [...document.querySelectorAll('.said')].map(one => getComputedStyle(one).direction)"""
    )
    assert sorted(sides) == ["ltr", "ltr", "rtl", "rtl"]
    padding = ana.page.evaluate("() => getComputedStyle(document.querySelector('.said ul')).paddingRight")
    assert padding != "0px"


def test_sensitive_content_is_covered_until_asked_for(studio, seat):
    ana = seat(studio)
    ana.open("covered")
    ana.press("1", "Enter", "e")
    assert studio.events("covered") == []
    assert ana.page.locator(".content").get_attribute("aria-hidden") == "true"
    ana.press("v")
    assert ana.page.locator(".content").get_attribute("aria-hidden") is None
    ana.press("1", "Enter")
    ana.wait_saved(1)
    ana.page.locator("#open-settings").click()
    ana.page.locator("#topic-offer button").click()
    ana.page.locator("#topics li", has_text="war").wait_for()
    ana.page.reload()
    ana.page.locator("#open-settings").click()
    assert ana.page.locator("#topics li").inner_text().startswith("war")


def test_everything_works_by_touch_on_a_small_screen(studio, seat):
    ana = seat(studio, width=390, height=844)
    ana.open("ranking")
    for slot in (2, 0, 1):
        ana.page.locator(f".unplaced [data-chip='overall-{slot}']").click()
    ana.page.locator(".row .tie").click()
    assert ana.page.locator(".level.waiting").count() == 1
    ana.page.locator("#more-actions").click()
    ana.page.locator("#beside [data-act=skip]").click()
    ana.page.locator("#ask label", has_text="Too long").click()
    ana.page.locator("#ask button[type=submit]").click()
    ana.wait_saved(1)
    ana.page.locator("#undo").click()
    ana.page.locator(".row .groups li").nth(2).wait_for()
    assert studio.standing("ranking") == []


def test_the_keyboard_starts_at_the_item_and_every_control_has_a_visible_focus(studio, seat):
    ana = seat(studio)
    ana.open("plain pairs")
    assert ana.page.evaluate("document.activeElement.id") == "heading"
    seen = []
    for _ in range(14):
        ana.press("Tab")
        seen.append(
            ana.page.evaluate(
                """() => {
                  const one = document.activeElement;
                  const drawn = one.matches('input[type=radio]') ? one.nextElementSibling : one;
                  return [one.tagName, getComputedStyle(drawn).outlineStyle];
                }"""
            )
        )
    assert {style for tag, style in seen if tag != "BODY"} <= {"solid", "auto"}
