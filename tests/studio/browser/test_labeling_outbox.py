"""Nothing is lost or doubled: killed servers, lost replies, closed and crashed browsers, two annotators at once."""

from __future__ import annotations

import signal
from contextlib import suppress

import psutil
import pytest
from playwright.sync_api import Error as PlaywrightError
from studio.browser.conftest import ARGUMENTS, BROWSER, seated
from studio.browser.serving import Studio, items, settings

from assent.feedback.records import TaskMode

WAITING = "#save[data-phase='waiting']"


@pytest.fixture
def studio(tmp_path):
    made = Studio(tmp_path, "Ana", "Ben")
    made.add_project("pairs", settings(TaskMode.PAIRWISE), items(8))
    made.start()
    yield made
    made.stop()


def answers_of(studio: Studio) -> dict[int, int]:
    """How many standing answers each item has."""
    with studio.reading() as store:
        annotated = store.answered_items(studio.projects["pairs"].id)
    return {one.item.id: len(one.events) for one in annotated}


def test_answers_given_while_the_server_is_dead_arrive_once_it_is_back(studio, seat):
    ana = seat(studio)
    ana.open("pairs")
    ana.press("1", "Enter")
    ana.wait_saved(1)
    ana.page.wait_for_load_state("networkidle")
    studio.kill()
    ana.press("2", "Enter", "=", "Enter")
    ana.page.locator(WAITING).wait_for()
    assert ana.page.locator("#save-words").inner_text().startswith("2 answers waiting")
    studio.start()
    ana.wait_saved(3)
    assert len(studio.events("pairs")) == 3
    assert set(answers_of(studio).values()) == {1}
    ana.press("1", "Enter")
    ana.wait_saved(4)


def test_what_waits_survives_closing_the_page(studio, seat):
    ana = seat(studio)
    ana.open("pairs")
    ana.page.wait_for_load_state("networkidle")
    studio.kill()
    ana.press("2", "Enter", "2", "Enter")
    ana.page.locator(WAITING).wait_for()
    context = ana.page.context
    ana.page.close()
    studio.start()
    again = seated(context, studio, "Ana")
    again.open("pairs")
    again.wait_saved(2)
    assert len(studio.events("pairs")) == 2


def test_what_waits_survives_a_crash_of_the_browser_and_of_the_server(studio, tmp_path, browser):
    profile = str(tmp_path / "profile")
    launch = browser.browser_type.launch_persistent_context
    context = launch(profile, executable_path=BROWSER, args=ARGUMENTS)
    ana = seated(context, studio, "Ana")
    ana.open("pairs")
    ana.page.wait_for_load_state("networkidle")
    studio.kill()
    ana.press("2", "Enter", "1", "Enter")
    ana.page.locator(WAITING).wait_for()
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if f"--user-data-dir={profile}" in command and not any(part.startswith("--type=") for part in command):
            process.send_signal(signal.SIGKILL)
    with suppress(PlaywrightError):  # it may know already that its browser is gone
        context.close()
    studio.start()
    context = launch(profile, executable_path=BROWSER, args=ARGUMENTS)
    ana = seated(context, studio, "Ana")
    ana.open("pairs")
    ana.wait_saved(2)
    context.close()
    assert len(studio.events("pairs")) == 2
    assert set(answers_of(studio).values()) == {1}


def test_a_reply_that_is_lost_on_the_way_does_not_double_the_answer(studio, seat):
    ana = seat(studio)
    ana.open("pairs")
    lost = []

    def lose(route):
        if len(lost) < 2:
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    ana.page.route("**/api/answers", lose)
    ana.press("2", "Enter", "1", "Enter")
    ana.wait_saved(2)
    assert lost == [201, 200]
    assert len(studio.events("pairs")) == 2


def test_saved_is_not_said_before_the_server_has_said_so(studio, seat):
    ana = seat(studio)
    ana.open("pairs")
    held = []
    ana.page.route("**/api/answers", lambda route: held.append(route))
    ana.press("2", "Enter")
    ana.page.locator("#save-words", has_text="Saving 1").wait_for()
    assert "Saved" not in ana.page.locator("#save-words").inner_text()
    held[0].continue_()
    ana.wait_saved(1)


def test_an_unsent_answer_can_be_taken_back_without_the_server_ever_seeing_it(studio, seat):
    ana = seat(studio)
    ana.open("pairs")
    held = []
    ana.page.route("**/api/answers", lambda route: held.append(route))
    ana.press("2", "Enter")
    prompt = ana.heading()
    ana.press("1", "Enter", "u")
    ana.wait_heading(prompt)
    held[0].continue_()
    ana.wait_saved(1)
    assert len(studio.events("pairs")) == 1


def test_signing_in_again_sends_what_a_lost_sign_in_left_behind(studio, seat):
    ana = seat(studio)
    ana.open("pairs")
    cookies = ana.page.context.cookies()
    ana.page.context.clear_cookies()
    ana.press("2", "Enter")
    ana.page.locator("#connection", has_text="You are signed out").wait_for()
    assert studio.events("pairs") == []
    ana.page.context.add_cookies(cookies)
    ana.open("pairs")
    ana.wait_saved(1)
    assert len(studio.events("pairs")) == 1


def test_two_annotators_at_once_never_get_the_same_item(studio, seat):
    people = [seat(studio, "Ana"), seat(studio, "Ben")]
    for person in people:
        person.open("pairs")
    done = False
    while not done:
        for person in people:
            if person.page.locator("#bar").is_visible():
                person.press("2", "Enter")
        done = all(person.page.locator("#item", has_text="Nothing left to annotate").count() for person in people)
    people[0].page.locator("#save[data-phase='idle']").wait_for()
    people[1].page.locator("#save[data-phase='idle']").wait_for()
    counts = answers_of(studio)
    assert len(counts) == 8
    assert set(counts.values()) == {1}
    by_person = {event.person_id for event in studio.events("pairs")}
    assert by_person == set(studio.people.values())
    assert [person.complaints for person in people] == [[], []]


def test_an_answer_from_ones_own_second_window_is_not_blamed_on_somebody_else(studio, seat):
    one, other = seat(studio, "Ana"), seat(studio, "Ana")
    for window in (one, other):
        window.open("pairs")
    assert one.heading() == other.heading()
    one.press("2", "Enter")
    one.wait_saved(1)
    other.press("1", "Enter")
    notice = other.page.locator("#notice", has_text="You had answered that item already")
    notice.wait_for()
    assert "Somebody else" not in other.page.locator("#notice").inner_text()
    assert len(studio.events("pairs")) == 1
