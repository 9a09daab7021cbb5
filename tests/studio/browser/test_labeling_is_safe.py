"""Hostile texts everywhere a text can stand: no script, no request, no report, and every character readable."""

import pytest
from studio.browser.payloads import HOSTILE
from studio.browser.serving import Studio, settings

from assent.feedback.records import Candidate, NewItem, TaskMode
from assent.types import Conversation

AT_ONCE = 9
ELEMENTS = (
    "main script, main iframe, main img, main svg, main object, main embed, main style, main link, main video,"
    " main audio, main form, main a, main math, main template, main base, main meta, dialog script, dialog img"
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    made = Studio(tmp_path_factory.mktemp("hostile"), "Ana", "<img src=x onerror=window.__hacked=1>")
    groups = [HOSTILE[at : at + AT_ONCE] for at in range(0, len(HOSTILE), AT_ONCE)]
    hostile = [
        NewItem(
            prompt=Conversation.of_user("\n\n".join(group)), candidates=tuple(Candidate(text=text) for text in group),
            topic=group[0],
        )
        for group in groups
    ]  # fmt: skip
    made.add_project(HOSTILE[0], settings(TaskMode.RANKING, instructions=HOSTILE[3]), hostile, "\n\n".join(HOSTILE))
    odd = Candidate(text="a\u202eb\u200b\u200b\u200bc\u2066d e\u00ad f 👩‍👩‍👧 می‌خواهم")
    made.add_project(
        "odd", settings(TaskMode.PAIRWISE), [NewItem(prompt=Conversation.of_user("odd"), candidates=(odd, odd))]
    )
    made.start()
    yield made
    made.stop()


def test_there_are_enough_of_them():
    assert len(set(HOSTILE)) >= 40


def test_hostile_texts_stay_text(studio, seat):
    ana = seat(studio, "<img src=x onerror=window.__hacked=1>", width=1500)
    ana.open(HOSTILE[0])
    if ana.page.locator("#guide").is_hidden():
        ana.press("i")
    ana.page.locator("#guide .said > *").first.wait_for()
    seen: list[str] = []
    for _ in range(0, len(HOSTILE), AT_ONCE):
        for keys in ((), ("t",), ("t", "d"), ("d", "1", "e", "x", "Escape")):
            ana.press(*keys)
            assert ana.page.evaluate("window.__hacked") is None
            assert ana.page.locator(ELEMENTS).count() == 0
        seen += ana.page.evaluate("[...document.querySelectorAll('.answer .said')].map(one => one.innerText.trim())")
        ana.page.locator("#open-settings").click()
        ana.press("Escape", "u", "=", "Enter")
    ana.page.locator("#item", has_text="Nothing left to annotate").wait_for()
    assert len(seen) == len(HOSTILE)
    assert "" not in seen
    assert [url for url in ana.requests if not url.startswith(studio.url)] == []
    assert [url for url in ana.requests if "csp-report" in url or "evil" in url] == []
    assert ana.complaints == []


def test_what_a_annotator_types_stays_text_too(studio, seat):
    ana = seat(studio)
    ana.open("odd")
    ana.press("e")
    for text in HOSTILE[::6]:
        ana.page.keyboard.insert_text(text)
    ana.page.locator(".changes ins").first.wait_for()
    ana.press("Escape", "w")
    ana.page.locator(".own textarea").fill("\n\n".join(HOSTILE))
    ana.page.locator(".own button", has_text="Preview").click()
    assert ana.page.locator(ELEMENTS).count() == 0
    ana.press("Escape", "f", "1")
    ana.page.locator("#ask-note").fill(HOSTILE[3])
    ana.press("Escape")
    assert ana.page.evaluate("window.__hacked") is None
    assert ana.complaints == []


def test_what_hides_or_turns_text_is_spelt_out(studio, seat):
    ana = seat(studio)
    ana.open("odd")
    signs = ana.page.locator(".answer[data-slot='0'] .sign").all_inner_texts()
    assert signs == ["U+202E", "U+200B ×3", "U+2066", "U+00AD"]
    text = ana.page.locator(".answer[data-slot='0'] .said").text_content()
    assert "👩‍👩‍👧" in text
    assert "می‌خواهم" in text
    assert "\u202e" not in text
    assert ana.page.locator(".answer[data-slot='0'] .badge").inner_text() == "6 hidden characters"


def test_the_policy_would_stop_and_report_a_script_that_got_in(studio, seat):
    ana = seat(studio)
    ana.open("odd")
    ana.page.evaluate(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'https://evil.test/x.png'}))"
    )
    with ana.page.expect_request("**/api/csp-report"):
        ana.page.evaluate("try { document.body.innerHTML = '<b>x</b>'; } catch (error) { console.log(error.name); }")
    assert any("evil.test" in text for text in ana.complaints)
    assert "TypeError" in ana.complaints
